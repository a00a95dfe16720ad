import { setImmediate } from "node:timers/promises";

/** How long large answers may be worked on before everything else gets a turn of the event loop, in milliseconds. */
const turnMs = 5;

// There is one event loop, which all answers share.
let turnEndsAt = 0;
let nextTurn: Promise<void> | undefined;

/** Waits, if the large answers have had their turn, for the next one. */
export async function turn(): Promise<void> {
  while (performance.now() >= turnEndsAt) {
    await (nextTurn ??= beginTurn());
  }
}

async function beginTurn(): Promise<void> {
  await setImmediate();
  nextTurn = undefined;
  turnEndsAt = performance.now() + turnMs;
}

/** The items of a list, each when it is its turn, for a field to give: what is made of them may take long together. */
export function inTurns<T>(items: readonly T[]): Promise<T>[] {
  let last = Promise.resolve();
  return items.map(async (item) => {
    await (last = last.then(turn));
    return item;
  });
}
