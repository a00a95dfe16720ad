import type { FfmpegProcess } from "./ffmpeg-starter.ts";

/** Maximum of processes that wait. */
export const maxReadyEncoders = 2;

/** A process that nobody has used for this long ends. */
const idleMs = 5 * 60_000;

/** Number of starts that are remembered. */
const rememberedStarts = 8;

/** How long after a turn the next processes start, so that this does not delay the response about the conversion. */
const refillAfterMs = 10;

/** How an encoder starts. */
export interface EncoderStart {
  readonly args: readonly string[];
  /** Bytes of silence with which its sound begins. It gets them at its start, so that one that waits has opened LAME. */
  readonly silentBytes: number;
}

interface ReadyEncoder {
  readonly start: EncoderStart;
  readonly child: FfmpegProcess;
  readonly idleTimer: NodeJS.Timeout;
}

/**
 * Encoder processes that were started before a conversion needs them, because starting one takes longer than encoding a
 * short clip. They wait for their first sound, and no process ever gets the sound of two conversions. Those that wait
 * are of the kinds that were asked for last, and at least twice lately.
 */
export class ReadyEncoders implements AsyncDisposable {
  readonly #spawn: (args: readonly string[]) => FfmpegProcess;
  /** What was asked for, the latest last. */
  readonly #lately: EncoderStart[] = [];
  readonly #ready = new Set<ReadyEncoder>();
  #refillTimer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(spawn: (args: readonly string[]) => FfmpegProcess) {
    this.#spawn = spawn;
  }

  /** Number of processes that wait. */
  get count(): number {
    return this.#ready.size;
  }

  /** Whether a process that was started like this waits. */
  has(start: EncoderStart): boolean {
    return this.#find(start) !== undefined;
  }

  /** Takes a process that was started like this, or starts one. */
  take(start: EncoderStart): FfmpegProcess {
    this.#lately.push(start);
    if (this.#lately.length > rememberedStarts) this.#lately.shift();
    const ready = this.#find(start);
    if (!ready) return this.#start(start);
    this.#forget(ready);
    return ready.child;
  }

  #find(start: EncoderStart): ReadyEncoder | undefined {
    return [...this.#ready].find((each) => areSame(each.start, start));
  }

  #start({ args, silentBytes }: EncoderStart): FfmpegProcess {
    const child = this.#spawn(args);
    if (silentBytes > 0) child.stdin.write(Buffer.alloc(silentBytes));
    return child;
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
      .filter((start, _, all) => all.filter((other) => areSame(other, start)).length > 1)
      .slice(-maxReadyEncoders);
    for (const ready of this.#ready) {
      const index = missing.findIndex((start) => areSame(start, ready.start));
      if (index >= 0) missing.splice(index, 1);
      else void this.#end(ready);
    }
    try {
      for (const start of missing) this.#add(start);
    } catch {
      // The system is at its limits. Conversions start their own processes, or report why they cannot.
    }
  }

  #add(start: EncoderStart): void {
    const child = this.#start(start);
    const idleTimer = setTimeout(() => void this.#end(ready), idleMs).unref();
    const ready = { start, child, idleTimer };
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

function areSame(one: EncoderStart, other: EncoderStart): boolean {
  return one.silentBytes === other.silentBytes && one.args.join(" ") === other.args.join(" ");
}
