/** Lets work of one user run in turn, while that of others goes on. */
export class OwnerTurns {
  /** By user, resolves when the last work has ended. */
  readonly #last = new Map<number, Promise<unknown>>();

  /** Runs `work` when the user's work before it has ended. */
  async run<T>(userId: number, work: () => Promise<T>): Promise<T> {
    const running = (this.#last.get(userId) ?? Promise.resolve()).then(work);
    const settled = Promise.allSettled([running]);
    this.#last.set(userId, settled);
    try {
      return await running;
    } finally {
      if (this.#last.get(userId) === settled) this.#last.delete(userId);
    }
  }
}
