/**
 * Asks, and asks again if something was changed before the answer came: that answer may not know of the change.
 * @param changes the number of changes so far
 */
export async function currentAnswer<T>(ask: () => Promise<T>, changes: () => number): Promise<T> {
  for (;;) {
    const before = changes();
    const answer = await ask();
    if (changes() === before) return answer;
  }
}
