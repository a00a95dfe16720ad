import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { sql, type RawBuilder } from "kysely";
import { addressKeys } from "../addresses/address-key.ts";
import { counted, ServiceError } from "../errors/errors.ts";

/** Capacity of an allowance, in days' worth. */
export const savedDays = 8;

/** Bytes that new users may write per day, on average; 0: no limit. */
export interface WriteAllowances {
  /** Number of days for which a user who registered without the operator counts as new. */
  readonly newUserDays: number;
  /** For each new user. */
  readonly perUser: number;
  /** For all new users together. Those from one address block may use half of it. */
  readonly together: number;
}

/** The allowances that a statement is charged to, as parameters of the database function `charge_allowance`. */
export interface Charge {
  readonly keys: readonly string[];
  readonly bytesPerDay: readonly number[];
}

/** Bytes charged for a row in addition to the MP3: the row itself, its indexes, and the maximum of its texts. */
export const rowBytes = { user: 4096, token: 2048, link: 4096, record: 65_536 } as const;

/** No charge. */
export const noCharge: Charge = { keys: [], bytesPerDay: [] };

/** A user who writes to the database. */
interface Writer {
  readonly id: number;
  readonly createdAt: Date;
  readonly isVouchedFor: boolean;
}

/**
 * The charge for a request of this user; none unless the user is new. Bytes that were written and then deleted, or
 * abandoned half-way, remain charged: only time refills an allowance.
 */
export function chargeOf(allowances: WriteAllowances, writer: Writer, clientAddress: string): Charge {
  const ageDays = (Date.now() - writer.createdAt.getTime()) / 86_400_000;
  if (writer.isVouchedFor || ageDays >= allowances.newUserDays) return noCharge;
  return toCharge([[`user:${writer.id}`, allowances.perUser], ...sharedAllowances(allowances, clientAddress)]);
}

/** The charge for creating a user. */
export function chargeOfNewcomer(allowances: WriteAllowances, clientAddress: string): Charge {
  return toCharge(allowances.newUserDays === 0 ? [] : sharedAllowances(allowances, clientAddress));
}

function sharedAllowances({ together }: WriteAllowances, clientAddress: string): [key: string, perDay: number][] {
  const { wide } = addressKeys(clientAddress);
  return [
    [`address:${wide}`, together / 2],
    ["new-users", together],
  ];
}

/** The order is always the same, so that two statements never wait for each other. */
function toCharge(allowances: readonly [key: string, perDay: number][]): Charge {
  const limited = allowances.filter(([, perDay]) => perDay > 0);
  return { keys: limited.map(([key]) => key), bytesPerDay: limited.map(([, perDay]) => perDay) };
}

/**
 * A refusal of `charge_allowance`: the number of the allowance that is used up, counted from 1, and for how many
 * seconds.
 */
type RefusedCharge = readonly [which: number, seconds: number];

/**
 * The error for a used-up allowance, worded for the client.
 * @returns RATE_LIMITED with `retryAfterSeconds`, `limit` in bytes and `withinSeconds`
 */
export function allowanceUsedUp({ keys, bytesPerDay }: Charge, [which, seconds]: RefusedCharge): ServiceError {
  const [key = "", perDay = 0] = [keys[which - 1], bytesPerDay[which - 1]];
  const whose = key.startsWith("user:")
    ? "A new user"
    : key === "new-users"
      ? "All new users together"
      : "New users from one network";
  const limit = Math.floor(perDay);
  return new ServiceError(
    "RATE_LIMITED",
    `${whose} may store ${limit} bytes a day, including deleted ones, and these are used up. ` +
      `Try again in ${counted(seconds, "second")}, or ask the operator of the service to vouch for you.`,
    { retryAfterSeconds: seconds, limit, withinSeconds: 86_400 },
  );
}

/**
 * Takes bytes. In a transaction, a rollback gives them back.
 * @throws {ServiceError} RATE_LIMITED
 */
export async function takeAllowance(em: SqlEntityManager, charge: Charge, bytes: number): Promise<void> {
  if (charge.keys.length === 0) return;
  const charged = em.getKysely<object>().selectNoFrom(refusalOf(charge, bytes).as("refused"));
  const { refused } = await charged.executeTakeFirstOrThrow();
  if (refused) throw allowanceUsedUp(charge, refused);
}

/** A call of the function `charge_allowance`, which a migration creates. It returns null if the bytes were taken. */
export function refusalOf({ keys, bytesPerDay }: Charge, bytes: number): RawBuilder<RefusedCharge | null> {
  return sql`charge_allowance(${keys}::text[], ${bytesPerDay}::float8[], ${savedDays}, ${bytes}::float8)`;
}

/**
 * Rows paid for in advance, at most, and the share of an allowance that they may take: what comes back in 21 seconds.
 */
const rowsInAdvance = 64;
const daysInAdvance = 1 / 4096;

/**
 * Allowances with bytes paid for in advance, at most. Beyond this the oldest are forgotten, and their bytes stay
 * charged.
 */
const maxPrepaid = 4096;

/**
 * Takes the bytes of many small rows with one statement. Statements that take from the same allowance wait for each
 * other's commit; with this, only one in {@link rowsInAdvance} does. Bytes that are unused when the service stops stay
 * charged.
 */
export class PrepaidAllowances {
  readonly #em: SqlEntityManager;
  /** Unused bytes by the key of the allowance; negative while a request pays. */
  readonly #left = new Map<string, number>();

  constructor(em: SqlEntityManager) {
    this.#em = em;
  }

  /**
   * Takes the bytes of one row.
   * @throws {ServiceError} RATE_LIMITED
   */
  async take({ keys, bytesPerDay }: Charge, bytes: number): Promise<void> {
    for (const key of keys) this.#add(key, -bytes);
    const lacking = keys.flatMap((key, at) => (this.#left.get(key)! < 0 ? [{ key, perDay: bytesPerDay[at]! }] : []));
    if (lacking.length === 0) return;
    const inAdvance = Math.min(rowsInAdvance * bytes, daysInAdvance * Math.min(...bytesPerDay));
    let paid = Math.max(bytes, inAdvance);
    const charge = { keys: lacking.map(({ key }) => key), bytesPerDay: lacking.map(({ perDay }) => perDay) };
    try {
      await takeAllowance(this.#em, charge, paid).catch(async (error: unknown) => {
        // What is left may be enough for this row.
        if (!(error instanceof ServiceError) || paid === bytes) throw error;
        paid = bytes;
        await takeAllowance(this.#em, charge, paid);
      });
    } catch (error) {
      for (const key of keys) this.#add(key, bytes);
      throw error;
    }
    for (const { key } of lacking) this.#add(key, paid);
    this.#forgetOldest();
  }

  #add(key: string, bytes: number): void {
    this.#left.set(key, (this.#left.get(key) ?? 0) + bytes);
  }

  #forgetOldest(): void {
    for (const [key, bytes] of this.#left) {
      if (this.#left.size <= maxPrepaid) return;
      if (bytes >= 0) this.#left.delete(key);
    }
  }
}
