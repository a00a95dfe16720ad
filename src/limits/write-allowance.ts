import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { sql, type RawBuilder } from "kysely";
import { queryBuilder } from "../database/query-builder.ts";
import { counted, ServiceError } from "../errors/errors.ts";
import { addressKeys } from "./rate-limiter.ts";
import type { LimitTables } from "./write-allowance.entity.ts";

/** How many days' worth of an allowance is there at once when it has not been used. */
export const savedDays = 8;

/** Bytes that strangers may make the database write, within a day and on the average; 0: no limit. */
export interface WriteAllowances {
  /** Days for which somebody counts as a stranger who has registered without the operator's doing. */
  readonly newUserDays: number;
  /** For each of them. */
  readonly perUser: number;
  /** For all of them together; those from one address block have half of it. */
  readonly together: number;
}

/** What a statement that writes takes from which allowances, as parameters of the function `charge_allowance`. */
export interface Charge {
  readonly keys: readonly string[];
  readonly bytesPerDay: readonly number[];
}

/** What a row costs beside the MP3: the row itself, its indexes, and what the texts in it may hold. */
export const rowBytes = { user: 4096, token: 2048, link: 4096, record: 65_536 } as const;

/** Whoever is charged nothing. */
export const noCharge: Charge = { keys: [], bytesPerDay: [] };

/** Somebody who makes the database write. */
interface Writer {
  readonly id: number;
  readonly createdAt: Date;
  readonly isVouchedFor: boolean;
}

/**
 * What a request of this user is charged to: nothing unless it is a stranger's. What was written and then deleted, or
 * given up half-way, stays charged: only time brings it back.
 */
export function chargeOf(allowances: WriteAllowances, writer: Writer, clientAddress: string): Charge {
  const ageDays = (Date.now() - writer.createdAt.getTime()) / 86_400_000;
  if (writer.isVouchedFor || ageDays >= allowances.newUserDays) return noCharge;
  return toCharge([[`user:${writer.id}`, allowances.perUser], ...sharedAllowances(allowances, clientAddress)]);
}

/** What the making of a user is charged to. */
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

/** The order is the same for everybody: so two statements never wait for each other. */
function toCharge(allowances: readonly [key: string, perDay: number][]): Charge {
  const limited = allowances.filter(([, perDay]) => perDay > 0);
  return { keys: limited.map(([key]) => key), bytesPerDay: limited.map(([, perDay]) => perDay) };
}

/**
 * The head of a statement that writes, and what its parameters are: `charged` has one row, whose `refused` is null if
 * the bytes were taken. What is to be written takes its rows from there.
 * @param first the number of the first of these parameters
 * @param condition what else must hold before anything is taken, such as `from room where exceeded is null`
 */
export function chargedTable(first: number, condition = ""): string {
  const [keys, perDay, bytes] = [first, first + 1, first + 2];
  return `charged as materialized (
    select charge_allowance($${keys}::text[], $${perDay}::float8[], ${savedDays}, $${bytes}::float8) as refused ${condition})`;
}

/** The parameters that {@link chargedTable} speaks of. */
export function chargeParameters({ keys, bytesPerDay }: Charge, bytes: number): unknown[] {
  return [keys, bytesPerDay, bytes];
}

/** What `charged.refused` comes as: which allowance is used up, counted from 1, and for how many seconds. */
export type RefusedCharge = readonly [which: number, seconds: number];

/**
 * The refusal of what an allowance has no room for, in words for whoever met it.
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
 * Takes bytes in a transaction of several statements; what undoes that gives them back.
 * @throws {ServiceError} RATE_LIMITED
 */
export async function takeAllowance(em: SqlEntityManager, charge: Charge, bytes: number): Promise<void> {
  if (charge.keys.length === 0) return;
  const charged = em.getKysely<object>().selectNoFrom(refusalOf(charge, bytes).as("refused"));
  const { refused } = await charged.executeTakeFirstOrThrow();
  if (refused) throw allowanceUsedUp(charge, refused);
}

/** The call of the function `charge_allowance`, which a migration has made: null if the bytes were taken. */
function refusalOf({ keys, bytesPerDay }: Charge, bytes: number): RawBuilder<RefusedCharge | null> {
  return sql`charge_allowance(${keys}::text[], ${bytesPerDay}::float8[], ${savedDays}, ${bytes}::float8)`;
}

/** Removes the rows of allowances that are whole again by now. */
export async function forgetRestoredAllowances(em: SqlEntityManager): Promise<void> {
  await queryBuilder<LimitTables>(em)
    .deleteFrom("WriteAllowance")
    .where("at", "<", sql<Date>`now() - make_interval(days => ${savedDays})`)
    .execute();
}
