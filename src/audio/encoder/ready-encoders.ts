import type { FfmpegProcess } from "./ffmpeg.ts";

/** Maximum of processes that wait. */
export const maxReadyEncoders = 2;

/** A process that nobody has used for this long ends. */
const idleMs = 5 * 60_000;

/** Number of starts that are remembered. */
const rememberedStarts = 8;

/** How long after a turn the next processes start, so that this does not delay the response about the conversion. */
const refillAfterMs = 20;

type Arguments = readonly string[];

interface ReadyEncoder {
  readonly args: Arguments;
  readonly child: FfmpegProcess;
  readonly idleTimer: NodeJS.Timeout;
}

/**
 * Encoder processes that were started before a conversion needs them, because starting one takes longer than encoding a
 * short clip. They wait for their first sound, and no process ever gets the sound of two conversions. Those that wait
 * are of the kinds that were asked for last, and at least twice lately.
 */
export class ReadyEncoders implements AsyncDisposable {
  readonly #start: (args: Arguments) => FfmpegProcess;
  /** What was asked for, the latest last. */
  readonly #lately: Arguments[] = [];
  readonly #ready = new Set<ReadyEncoder>();
  #refillTimer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(start: (args: Arguments) => FfmpegProcess) {
    this.#start = start;
  }

  /** Number of processes that wait. */
  get count(): number {
    return this.#ready.size;
  }

  /** Whether a process with these arguments waits. */
  has(args: Arguments): boolean {
    return this.#find(args) !== undefined;
  }

  /** Takes a process with these arguments, or starts one. */
  take(args: Arguments): FfmpegProcess {
    this.#lately.push(args);
    if (this.#lately.length > rememberedStarts) this.#lately.shift();
    const ready = this.#find(args);
    if (!ready) return this.#start(args);
    this.#forget(ready);
    return ready.child;
  }

  #find(args: Arguments): ReadyEncoder | undefined {
    return [...this.#ready].find((each) => areSame(each.args, args));
  }

  /** Soon replaces the processes that were taken, unless encoders are scarce then. */
  refillSoon(areScarce: () => boolean): void {
    if (this.#closed) return;
    this.#refillTimer ??= setTimeout(() => {
      this.#refillTimer = undefined;
      if (!areScarce()) this.#refill();
    }, refillAfterMs).unref();
  }

  /** Kills the processes. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#refillTimer);
    await Promise.all(Array.from(this.#ready, async (ready) => await this.#end(ready)));
  }

  #refill(): void {
    const missing = this.#lately
      .filter((args, _, all) => all.filter((other) => areSame(other, args)).length > 1)
      .slice(-maxReadyEncoders);
    for (const ready of this.#ready) {
      const index = missing.findIndex((args) => areSame(args, ready.args));
      if (index >= 0) missing.splice(index, 1);
      else void this.#end(ready);
    }
    try {
      for (const args of missing) this.#add(args);
    } catch {
      // The system is at its limits. Conversions start their own processes, or report why they cannot.
    }
  }

  #add(args: Arguments): void {
    const child = this.#start(args);
    const idleTimer = setTimeout(() => void this.#end(ready), idleMs).unref();
    const ready = { args, child, idleTimer };
    this.#ready.add(ready);
    void child.ended.then(() => this.#forget(ready));
  }

  #forget(ready: ReadyEncoder): void {
    this.#ready.delete(ready);
    clearTimeout(ready.idleTimer);
  }

  async #end(ready: ReadyEncoder): Promise<void> {
    this.#forget(ready);
    await ready.child[Symbol.asyncDispose]();
  }
}

function areSame(one: Arguments, other: Arguments): boolean {
  return one.join(" ") === other.join(" ");
}
