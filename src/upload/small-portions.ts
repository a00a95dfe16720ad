import { RateLimiterMemory, RateLimiterRes } from "rate-limiter-flexible";
import { overLimit } from "../limits/rate-limiter.ts";
import type { Config } from "../settings/config.ts";

/** A portion of a file with fewer bytes is small. */
const smallBytes = 64 * 1024;

const minuteSeconds = 60;

/** What started an upload. */
interface Credential {
  readonly ownerId: number;
  readonly tokenId: string | null;
  readonly ticketId: string | null;
}

/** Bytes of a request, and how many it states. */
interface Arriving {
  readonly bytes: AsyncGenerator<Buffer, void, undefined>;
  readonly statedBytes: number | undefined;
}

/** The bytes of an admitted portion. Dispose of it when no more of them are taken. */
interface Admitted extends AsyncDisposable {
  readonly bytes: AsyncGenerator<Buffer, void, undefined>;
}

/**
 * Limits the small portions of resumable uploads for each ticket and token, because every portion is stored, however few bytes it has.
 * So guests with a ticket cannot use up what its maker may send. It counts in memory, because a statement for each would cost
 * as much as what it saves.
 */
export class SmallPortions {
  readonly #perMinute: number;
  readonly #waitMs: number;
  readonly #counter: RateLimiterMemory | undefined;

  /** @param config with the maximum within a minute from the first one; 0: no limit */
  constructor(config: Pick<Config, "maxSmallPortionsPerMinute" | "stallTimeoutSeconds">) {
    this.#perMinute = config.maxSmallPortionsPerMinute;
    this.#waitMs = config.stallTimeoutSeconds * 1000;
    if (this.#perMinute > 0)
      this.#counter = new RateLimiterMemory({ points: this.#perMinute, duration: minuteSeconds });
  }

  /**
   * Counts a portion that states to be small now, and another one when it is disposed of, if it turned out small. When no more
   * small ones are allowed, the latter has to bring so many bytes that it is not small before anything is done with them.
   * @throws {ServiceError} RATE_LIMITED with `retryAfterSeconds`, `limit` and `withinSeconds`
   */
  async admit(credential: Credential, portion: Arriving): Promise<Admitted> {
    const counter = this.#counter;
    if (!counter) return admitted(portion.bytes);
    const key = credential.ticketId ?? credential.tokenId ?? credential.ownerId;
    if (portion.statedBytes !== undefined && portion.statedBytes < smallBytes) {
      await counter.consume(key).catch((error: unknown) => {
        throw error instanceof RateLimiterRes ? this.#refusal(error) : error;
      });
      return admitted(portion.bytes);
    }
    const count = await counter.get(key);
    if (count && count.remainingPoints <= 0) {
      const first = await firstBytes(portion.bytes, this.#waitMs);
      if (!first) throw this.#refusal(count);
      return admitted(following(first, portion.bytes));
    }
    let arrivedBytes = 0;
    async function* counted(): AsyncGenerator<Buffer, void, undefined> {
      for await (const piece of portion.bytes) {
        arrivedBytes += piece.length;
        yield piece;
      }
    }
    return admitted(counted(), async () => {
      if (arrivedBytes < smallBytes) await counter.penalty(key);
    });
  }

  #refusal(count: RateLimiterRes): Error {
    return overLimit(count, {
      what: "small request",
      whose: "with this token or ticket",
      limit: this.#perMinute,
      withinSeconds: minuteSeconds,
    });
  }
}

function admitted(bytes: Admitted["bytes"], whenTaken: () => Promise<void> = async () => {}): Admitted {
  return { bytes, [Symbol.asyncDispose]: whenTaken };
}

/** As many bytes as make a portion large, in two pieces; undefined if they do not come in this time, or not at all. */
async function firstBytes(
  bytes: AsyncGenerator<Buffer, void, undefined>,
  waitMs: number,
): Promise<readonly Buffer[] | undefined> {
  const giveUpAt = performance.now() + waitMs;
  const first = Buffer.allocUnsafe(smallBytes);
  for (let filled = 0; performance.now() < giveUpAt;) {
    // A client that is lost or silent has not brought them either.
    const next = await bytes.next().catch(() => undefined);
    if (!next || next.done) return undefined;
    const copied = next.value.copy(first, filled);
    filled += copied;
    if (filled === smallBytes) return [first, next.value.subarray(copied)].filter(({ length }) => length > 0);
  }
  return undefined;
}

async function* following(
  first: readonly Buffer[],
  rest: AsyncGenerator<Buffer, void, undefined>,
): AsyncGenerator<Buffer, void, undefined> {
  yield* first;
  yield* rest;
}
