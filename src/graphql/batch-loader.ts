import { turn, turnsTaken } from "./in-turns.ts";
import type { RequestContext } from "./request-context.ts";

/**
 * Combines many look-ups of one key into few look-ups of many keys: it loads together what the resolvers of one request
 * ask for before all that waits for its turn has had it, and hands it out in turns (`in-turns.ts`). Nothing is cached,
 * so that later fields of a mutation see what it changed.
 * @param loadMany finds the values of different keys; the map omits keys without a value
 */
export function batchLoader<K, V>(
  loadMany: (context: RequestContext, keys: readonly K[]) => Promise<ReadonlyMap<K, V>>,
): (context: RequestContext, key: K) => Promise<V | undefined> {
  const open = new WeakMap<RequestContext, Batch<K, V>>();

  const begin = (context: RequestContext) => {
    const keys = new Set<K>();
    const values = turnsTaken(context).then(async () => {
      open.delete(context);
      return await loadMany(context, [...keys]);
    });
    const batch: Batch<K, V> = { keys, values };
    open.set(context, batch);
    return batch;
  };

  return async (context, key) => {
    const batch = open.get(context) ?? begin(context);
    batch.keys.add(key);
    const values = await batch.values;
    await turn(context); // what is made of all values together may take long
    return values.get(key);
  };
}

interface Batch<K, V> {
  readonly keys: Set<K>;
  readonly values: Promise<ReadonlyMap<K, V>>;
}
