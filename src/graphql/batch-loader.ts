import { setImmediate } from "node:timers/promises";
import { turn } from "./in-turns.ts";
import type { RequestContext } from "./request-context.ts";

/**
 * Combines many look-ups of one key into few look-ups of many keys: it loads together what the resolvers of one request
 * ask for in the same turn of the event loop, and hands it out in turns (`in-turns.ts`). Nothing is cached, so that
 * later fields of a mutation see what it changed.
 * @param loadMany finds the values of different keys; the map omits keys without a value
 */
export function batchLoader<K, V>(
  loadMany: (context: RequestContext, keys: readonly K[]) => Promise<ReadonlyMap<K, V>>,
): (context: RequestContext, key: K) => Promise<V | undefined> {
  const open = new WeakMap<RequestContext, Batch<K, V>>();

  const begin = (context: RequestContext) => {
    const keys = new Set<K>();
    const values = setImmediate().then(async () => {
      open.delete(context);
      return await loadMany(context, [...keys]);
    });
    const batch: Batch<K, V> = { keys, values, lastTurn: loaded(values) };
    open.set(context, batch);
    return batch;
  };

  return async (context, key) => {
    const batch = open.get(context) ?? begin(context);
    batch.keys.add(key);
    // What is made of a value may take long, so they do not come all at once.
    await (batch.lastTurn = batch.lastTurn.then(turn));
    return (await batch.values).get(key);
  };
}

async function loaded(values: Promise<unknown>): Promise<void> {
  await values;
}

interface Batch<K, V> {
  readonly keys: Set<K>;
  readonly values: Promise<ReadonlyMap<K, V>>;
  lastTurn: Promise<void>;
}
