import { setImmediate } from "node:timers/promises";
import type { RequestContext } from "./request-context.ts";

/**
 * Combines many look-ups of one key into few look-ups of many keys: it loads together what the resolvers of one request
 * ask for in the same turn of the event loop. Nothing is cached, so that later fields of a mutation see what it
 * changed.
 * @param loadMany finds the values of different keys; the map omits keys without a value
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
