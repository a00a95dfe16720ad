import type { Pool } from "pg";
import { RateLimiterPostgres, RateLimiterRes } from "rate-limiter-flexible";
import { addressKeys } from "../addresses/address-key.ts";
import { counted, ServiceError } from "../errors/errors.ts";

const hourSeconds = 3600;

/** A rate limit. */
interface RateLimitRule {
  /** Prefix of the keys of this limit, such as `upload:user`. */
  readonly name: string;
  /** What is limited and for whom, for the message: `upload` and `by this user`. */
  readonly what: string;
  readonly whose: string;
  /** Maximum number within an hour from the first one; 0: no limit, and no statement. */
  readonly perHour: number;
}

/**
 * Counts in PostgreSQL, so that replicas share the count. A key over its limit is kept in memory until its hour is
 * over, so that a flood costs no statements.
 */
export class RateLimiter {
  readonly #rule: RateLimitRule;
  readonly #counter: RateLimiterPostgres | undefined;

  constructor(pool: Pool, rule: RateLimitRule) {
    this.#rule = rule;
    if (rule.perHour === 0) return;
    this.#counter = new RateLimiterPostgres({
      // SQL as text: the library writes it. Omits the statement's name, because a transaction-pooling proxy may not
      // support prepared statements.
      storeClient: {
        query: async ({ text, values }: { text: string; values: unknown[] }) => await pool.query(text, values),
      },
      storeType: "client",
      tableName: "rate_limit",
      tableCreated: true,
      // Three limiters in each replica would each read the whole table; see `forget-old-counts.ts`.
      clearExpiredByTimeout: false,
      keyPrefix: rule.name,
      points: rule.perHour,
      duration: hourSeconds,
      inMemoryBlockOnConsumed: rule.perHour,
    });
  }

  /**
   * Counts one action for the key.
   * @throws {ServiceError} RATE_LIMITED with `retryAfterSeconds`, `limit` and `withinSeconds`
   */
  async consume(key: string): Promise<void> {
    if (!this.#counter) return;
    try {
      await this.#counter.consume(key);
    } catch (error) {
      if (!(error instanceof RateLimiterRes)) throw error;
      const { perHour, what, whose } = this.#rule;
      throw overLimit(error, { what, whose, limit: perHour, withinSeconds: hourSeconds });
    }
  }
}

/** The error for a key over its limit, which is for an hour or a minute. */
export function overLimit(
  { msBeforeNext }: RateLimiterRes,
  { what, whose, limit, withinSeconds }: { what: string; whose: string; limit: number; withinSeconds: number },
): ServiceError {
  const retryAfterSeconds = Math.max(1, Math.ceil(msBeforeNext / 1000));
  const wereThere = `There ${limit === 1 ? "was" : "were"} ${counted(limit, what)} ${whose}`;
  const period = withinSeconds === hourSeconds ? "an hour" : "a minute";
  return new ServiceError(
    "RATE_LIMITED",
    `${wereThere} within ${period}, which is the limit. Try again in ${counted(retryAfterSeconds, "second")}.`,
    { retryAfterSeconds, limit, withinSeconds },
  );
}

/** Factor by which the limit of an IPv6 site exceeds that of one address. */
const timesOfSite = 4;

/** Counts by client address, and IPv6 addresses also by site, so that having many addresses gives no advantage. */
export class AddressLimiter {
  readonly #addresses: RateLimiter;
  readonly #sites: RateLimiter;

  constructor(pool: Pool, rule: RateLimitRule) {
    this.#addresses = new RateLimiter(pool, rule);
    this.#sites = new RateLimiter(pool, {
      ...rule,
      name: `${rule.name}:48`,
      perHour: rule.perHour * timesOfSite,
    });
  }

  /**
   * Counts one action for the address.
   * @throws {ServiceError} RATE_LIMITED with `retryAfterSeconds`, `limit` and `withinSeconds`
   */
  async consume(address: string): Promise<void> {
    const { narrow, wide } = addressKeys(address);
    await this.#addresses.consume(narrow);
    if (wide !== narrow) await this.#sites.consume(wide);
  }
}
