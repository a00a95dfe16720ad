/** A queue in which owners take turns. The items of one owner stay in order of arrival. */
export class FairQueue<Owner, Item> {
  /** One line per owner; the owner whose turn is next comes first. */
  readonly #lines = new Map<Owner, Set<Item>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  sizeOf(owner: Owner): number {
    return this.#lines.get(owner)?.size ?? 0;
  }

  add(owner: Owner, item: Item): void {
    const line = this.#lines.get(owner) ?? new Set();
    this.#lines.set(owner, line.add(item));
    this.#size += 1;
  }

  /** Removes an item; false if it was not in the queue. */
  delete(owner: Owner, item: Item): boolean {
    const line = this.#lines.get(owner);
    if (!line?.delete(item)) return false;
    if (line.size === 0) this.#lines.delete(owner);
    this.#size -= 1;
    return true;
  }

  /** Removes the first item that `isAccepted` accepts, and puts its owner behind the others. */
  takeFirst(isAccepted: (item: Item) => boolean): Item | undefined {
    for (const [owner, line] of this.#lines) {
      for (const item of line) {
        if (!isAccepted(item)) continue;
        this.delete(owner, item);
        if (this.#lines.delete(owner)) this.#lines.set(owner, line);
        return item;
      }
    }
    return undefined;
  }

  /** Removes the first item of the first owner that `isAccepted` accepts, and puts the owner behind the others. */
  takeFirstOf(isAccepted: (owner: Owner) => boolean): Item | undefined {
    for (const [owner, line] of this.#lines) {
      if (!isAccepted(owner)) continue;
      const [item] = line;
      this.delete(owner, item!);
      if (this.#lines.delete(owner)) this.#lines.set(owner, line);
      return item;
    }
    return undefined;
  }

  *[Symbol.iterator](): Generator<Item, void, undefined> {
    for (const line of this.#lines.values()) yield* line;
  }
}
