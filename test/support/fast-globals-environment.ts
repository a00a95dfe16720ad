import { TestEnvironment as NodeEnvironment } from "jest-environment-node";
import vm from "node:vm";

/**
 * Jest's environment for Node, with a context whose global object is an ordinary object. In Jest's own, each reading of
 * a global, such as `Math` or `Buffer`, passes an interceptor and a proxy, which takes 0.2 microseconds and more: seconds
 * in a loop over samples. Node before 22.8 has only that kind.
 *
 * Errors of Node itself, such as a lost connection, are errors there as they are in the service: otherwise `instanceof`
 * does not find them, because a context has an `Error` of its own.
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
    for (const name of ["Error", "TypeError", "RangeError", "AggregateError"] as const) {
      const [inner, outer] = [this.global[name], globalThis[name]];
      Object.defineProperty(inner, Symbol.hasInstance, {
        value(this: unknown, value: unknown) {
          // Classes that are derived from it inherit this function.
          return Function.prototype[Symbol.hasInstance].call(this, value) || (this === inner && value instanceof outer);
        },
      });
    }
  }
}
