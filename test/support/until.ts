import { setTimeout as delay } from "node:timers/promises";

/** Asks again and again, for things that send no event, until the answer is what it should be; at last gives it. */
export async function until<T>(ask: () => Promise<T> | T, isRight: (answer: T) => boolean, seconds = 20): Promise<T> {
  const end = performance.now() + seconds * 1000;
  let answer = await ask();
  while (!isRight(answer) && performance.now() < end) {
    await delay(25);
    answer = await ask();
  }
  return answer;
}
