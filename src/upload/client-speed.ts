import { ServiceError } from "../errors/errors.ts";

/** Requirements for the speed of an upload's client. */
export interface SpeedLimits {
  /** Minimum average speed; 0: none. */
  readonly minUploadBytesPerSecond: number;
  /** The speed is averaged over twice this time, and checked after this time of waiting. */
  readonly stallTimeoutSeconds: number;
}

/** A client faster than this never counts as slow. */
const quickBytesPerSecond = 64 * 1024;

interface Mark {
  readonly awaitedMs: number;
  readonly bytes: number;
}

/** Measures how fast a client sends. Only the time in which the service waits for the client counts. */
export class ClientSpeed {
  readonly #limits: SpeedLimits;
  readonly #windowMs: number;
  readonly #ended = new AbortController();
  #bytes = 0;
  #awaitedMs = 0;
  #awaitedSince: number | undefined;
  /** When the last byte had arrived, as of `performance.now()`; undefined until then. */
  endedAt: number | undefined;
  /** Progress of the upload at times within the window, oldest first. */
  #marks: Mark[] = [{ awaitedMs: 0, bytes: 0 }];

  constructor(limits: SpeedLimits) {
    this.#limits = limits;
    this.#windowMs = 2000 * limits.stallTimeoutSeconds;
  }

  /** Aborted by {@link end}. */
  get signal(): AbortSignal {
    return this.#ended.signal;
  }

  /** Bytes per second of waiting, within the averaging window. */
  get bytesPerSecond(): number {
    const { awaitedMs, bytes } = this.#marks[0]!;
    return ((this.#bytes - bytes) * 1000) / Math.max(1, this.#awaitedMsNow - awaitedMs);
  }

  /** Whether the service is waiting for this client now, has waited for a while, and has received little. */
  get isSlow(): boolean {
    const hadTime = this.#awaitedMsNow >= this.#windowMs / 12;
    return this.#awaitedSince !== undefined && hadTime && this.bytesPerSecond < quickBytesPerSecond;
  }

  /** Ends the upload, because another one needs its place. */
  end(): void {
    const sentence =
      "Too many uploads are running, and this one was the slowest. Send the file again over a faster connection.";
    this.#ended.abort(new ServiceError("UPLOAD_STALLED", sentence));
  }

  /**
   * Passes an upload's bytes on.
   * @throws {ServiceError} UPLOAD_STALLED with `minBytesPerSecond`, if the average is below it
   */
  async *watch(source: AsyncGenerator<Buffer, void, undefined>): AsyncGenerator<Buffer, void, undefined> {
    try {
      for (;;) {
        this.#awaitedSince = performance.now();
        const next = await source.next();
        this.#awaitedMs = this.#awaitedMsNow;
        this.#awaitedSince = undefined;
        if (next.done) {
          this.endedAt = performance.now();
          return;
        }
        this.#bytes += next.value.length;
        this.#judge();
        yield next.value;
      }
    } finally {
      this.#awaitedSince = undefined;
      await source.return();
    }
  }

  get #awaitedMsNow(): number {
    return this.#awaitedMs + (this.#awaitedSince === undefined ? 0 : performance.now() - this.#awaitedSince);
  }

  #judge(): void {
    const { minUploadBytesPerSecond: minBytesPerSecond, stallTimeoutSeconds } = this.#limits;
    if (this.#awaitedMs >= stallTimeoutSeconds * 1000 && this.bytesPerSecond < minBytesPerSecond) {
      const sentence = `The upload arrived at less than ${minBytesPerSecond} bytes per second on average. Send the file again over a faster connection.`;
      throw new ServiceError("UPLOAD_STALLED", sentence, { minBytesPerSecond });
    }
    if (this.#awaitedMs - this.#marks.at(-1)!.awaitedMs >= this.#windowMs / 6) {
      this.#marks.push({ awaitedMs: this.#awaitedMs, bytes: this.#bytes });
    }
    while (this.#marks.length > 1 && this.#awaitedMs - this.#marks[1]!.awaitedMs >= this.#windowMs) this.#marks.shift();
  }
}
