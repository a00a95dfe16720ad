/** Counts things, in total and per key. */
export class Tally<Key> {
  #total = 0;
  readonly #counts = new Map<Key, number>();

  get total(): number {
    return this.#total;
  }

  of(key: Key): number {
    return this.#counts.get(key) ?? 0;
  }

  add(key: Key): void {
    this.#total += 1;
    this.#counts.set(key, this.of(key) + 1);
  }

  subtract(key: Key): void {
    this.#total -= 1;
    const left = this.of(key) - 1;
    if (left === 0) this.#counts.delete(key);
    else this.#counts.set(key, left);
  }
}
