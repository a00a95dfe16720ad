import { TestEnvironment as NodeEnvironment } from "jest-environment-node";
import vm from "node:vm";

/**
 * Jest's environment for Node, with a context whose global object is an ordinary object. In Jest's own, each reading of
 * a global, such as `Math` or `Buffer`, passes an interceptor and a proxy, which takes 0.2 microseconds and more: seconds
 * in a loop over samples. Node before 22.8 has only that kind.
 */
export default class FastGlobalsEnvironment extends NodeEnvironment {
  constructor(...parameters: ConstructorParameters<typeof NodeEnvironment>) {
    const { createContext, constants } = vm;
    vm.createContext = () => createContext(constants.DONT_CONTEXTIFY);
    try {
      super(...parameters);
    } finally {
      vm.createContext = createContext;
    }
  }
}
