import type { Pool } from "pg";
import { RateLimiterPostgres, RateLimiterRes } from "rate-limiter-flexible";
import { counted, ServiceError } from "../errors/errors.ts";

const hourSeconds = 3600;

/** What is limited, and how often it may happen. */
export interface RateLimitRule {
  /** Keeps the keys of several limits apart, such as `upload:user`. */
  readonly name: string;
  /** One of what there are too many of, and whose, for the refusal: `upload` and `by this user`. */
  readonly what: string;
  readonly whose: string;
  /** Times within an hour from the first one; 0: no limit, and no statement. */
  readonly perHour: number;
}

/**
 * Counts in PostgreSQL, so that replicas share the count. A key that is over its limit is remembered here until its
 * hour is over: a flood costs no statements.
 */
export class RateLimiter {
  readonly #rule: RateLimitRule;
  readonly #counter: RateLimiterPostgres | undefined;

  constructor(pool: Pool, rule: RateLimitRule) {
    this.#rule = rule;
    if (rule.perHour === 0) return;
    this.#counter = new RateLimiterPostgres({
      // Without the statement's name: a transaction-pooling proxy may not know prepared statements.
      storeClient: {
        query: async ({ text, values }: { text: string; values: unknown[] }) => await pool.query(text, values),
      },
      storeType: "client",
      tableName: "rate_limit",
      tableCreated: true,
      keyPrefix: rule.name,
      points: rule.perHour,
      duration: hourSeconds,
      inMemoryBlockOnConsumed: rule.perHour,
    });
  }

  /**
   * Counts one more for the key.
   * @throws {ServiceError} RATE_LIMITED with `retryAfterSeconds`, `limit` and `withinSeconds`
   */
  async consume(key: string): Promise<void> {
    try {
      await this.#counter?.consume(key);
    } catch (error) {
      if (!(error instanceof RateLimiterRes)) throw error;
      const retryAfterSeconds = Math.max(1, Math.ceil(error.msBeforeNext / 1000));
      const { perHour, what, whose } = this.#rule;
      const wereThere = `There ${perHour === 1 ? "was" : "were"} ${counted(perHour, what)} ${whose}`;
      throw new ServiceError(
        "RATE_LIMITED",
        `${wereThere} within an hour, which is the limit. Try again in ${counted(retryAfterSeconds, "second")}.`,
        { retryAfterSeconds, limit: perHour, withinSeconds: hourSeconds },
      );
    }
  }
}

/** How many times what one address may do, a whole IPv6 site may. */
const timesOfSite = 4;

/** Counts by the client's address, and IPv6 addresses by their site as well: nobody has more for having many. */
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
   * Counts one more for the address.
   * @throws {ServiceError} RATE_LIMITED with `retryAfterSeconds`, `limit` and `withinSeconds`
   */
  async consume(address: string): Promise<void> {
    const { narrow, wide } = addressKeys(address);
    await this.#addresses.consume(narrow);
    if (wide !== narrow) await this.#sites.consume(wide);
  }
}

/**
 * What a client's address is counted by: an IPv4 address as it is, of an IPv6 address the first 64 bits, as whoever
 * has one of these has them all (RFC 4291 section 2.5.1).
 */
export function addressKey(address: string): string {
  return addressKeys(address).narrow;
}

/**
 * The same key, and a wider one for what a site is given: of an IPv6 address the first 48 bits, which have 65,536 of the
 * others (RFC 6177 section 2). An IPv4 address has one key only.
 */
export function addressKeys(address: string): { readonly narrow: string; readonly wide: string } {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined || !address.includes(":")) {
    return { narrow: mapped ?? address, wide: mapped ?? address };
  }
  const [front = "", back] = address.split("%", 1)[0]!.toLowerCase().split("::");
  const first = front === "" ? [] : front.split(":");
  const last = back ? back.split(":") : [];
  const zeros = back === undefined ? 0 : Math.max(0, 8 - first.length - last.length);
  const groups = [...first, ...Array<string>(zeros).fill("0"), ...last].slice(0, 4);
  const short = groups.map((group) => group.replace(/^0+(?=.)/, ""));
  return { narrow: short.join(":"), wide: short.slice(0, 3).join(":") };
}
