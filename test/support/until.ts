import { setTimeout as delay } from "node:timers/promises";

/** Polls something that sends no event until the result is right, and returns the last result. */
export async function until<T>(ask: () => Promise<T> | T, isRight: (answer: T) => boolean, seconds = 120): Promise<T> {
  const end = performance.now() + seconds * 1000;
  let answer = await ask();
  while (!isRight(answer) && performance.now() < end) {
    await delay(25);
    answer = await ask();
  }
  return answer;
}
