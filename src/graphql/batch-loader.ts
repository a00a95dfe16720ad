import { setImmediate } from "node:timers/promises";
import type { RequestContext } from "./request-context.ts";

/**
 * Turns many look-ups of one key into few of many keys: what the resolvers of one request ask for in the same turn of
 * the event loop is loaded together. Nothing is remembered, so that a later field of a mutation sees what it changed.
 * @param loadMany finds the values of different keys; a key without a value is left out of the map
 */
export function batchLoader<K, V>(
  loadMany: (context: RequestContext, keys: readonly K[]) => Promise<ReadonlyMap<K, V>>,
): (context: RequestContext, key: K) => Promise<V | undefined> {
  const open = new WeakMap<RequestContext, { keys: Set<K>; values: Promise<ReadonlyMap<K, V>> }>();

  const begin = (context: RequestContext) => {
    const keys = new Set<K>();
    const values = setImmediate().then(async () => {
      open.delete(context);
      return await loadMany(context, [...keys]);
    });
    const batch = { keys, values };
    open.set(context, batch);
    return batch;
  };

  return async (context, key) => {
    const { keys, values } = open.get(context) ?? begin(context);
    keys.add(key);
    return (await values).get(key);
  };
}
