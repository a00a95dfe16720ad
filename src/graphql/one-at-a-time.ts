import type { RequestContext } from "./request-context.ts";

const lastOf = new WeakMap<RequestContext, Promise<unknown>>();

/**
 * Runs what the fields of one request ask for one after the other. However many fields it has, the request then takes
 * one connection to the database, and the rows that are made into objects come one result at a time.
 */
export async function oneAtATime<T>(context: RequestContext, run: () => Promise<T>): Promise<T> {
  const result = afterwards(lastOf.get(context), run);
  lastOf.set(context, result);
  return await result;
}

async function afterwards<T>(before: Promise<unknown> | undefined, run: () => Promise<T>): Promise<T> {
  await before?.catch(() => {}); // its own field reports it
  return await run();
}
