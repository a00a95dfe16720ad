import type { SqlEntityManager } from "@mikro-orm/postgresql";
import type { Pool } from "pg";
import { ServiceError } from "../errors/errors.ts";
import {
  decodeCursor,
  encodeCursor,
  type RecordOrder,
  type RecordOrderField,
  type RecordPosition,
} from "./record-cursor.ts";
import { AudioRecord } from "../record/record.entity.ts";
import { searchWords } from "../record/search-text.ts";

/** Records of one page, if the client does not say and at most. */
export const defaultPageSize = 20;
export const maxPageSize = 100;
/** Characters of a search text, at most. */
export const maxSearchLength = 200;

/** Which recordings are meant. What is absent does not restrict. */
export interface RecordFilter {
  /** Words that all stand somewhere in title, file name or tags, whatever their case and accents. */
  readonly text?: string | null;
  readonly createdAt?: { readonly from?: Date | null; readonly before?: Date | null } | null;
  /** Both ends belong to it. */
  readonly durationSeconds?: { readonly min?: number | null; readonly max?: number | null } | null;
}

/** Which part of a list is meant, as the Relay connection specification has it. */
export interface PageRequest {
  readonly first?: number | null;
  readonly after?: string | null;
  readonly last?: number | null;
  readonly before?: string | null;
}

/** A part of a list. */
export interface RecordPage {
  readonly edges: readonly { readonly cursor: string; readonly record: AudioRecord }[];
  readonly hasPreviousPage: boolean;
  readonly hasNextPage: boolean;
  /** How many recordings the filter leaves, where the page itself tells. */
  readonly totalCount: number | undefined;
}

/** Newest first. */
export const defaultOrder: RecordOrder = { field: "CREATED_AT", direction: "DESC" };

/** The column of each order, how its value stands in a cursor, and how it comes back from there. */
const sortKeys: Readonly<
  Record<RecordOrderField, { column: string; toKey: string; fromKey: (key: string) => string }>
> = {
  CREATED_AT: {
    column: "created_at",
    toKey: "(extract(epoch from created_at) * 1000000)::bigint",
    fromKey: (key) => `timestamptz 'epoch' + ${key}::bigint * interval '1 microsecond'`,
  },
  TITLE: { column: "title_key", toKey: "title_key", fromKey: (key) => `${key}::text` },
  DURATION: { column: "duration_seconds", toKey: "duration_seconds", fromKey: (key) => `${key}::float8` },
  SIZE: { column: "size_bytes", toKey: "size_bytes", fromKey: (key) => `${key}::bigint` },
};

/** An SQL text and the values of its parameters. */
export interface Statement {
  readonly text: string;
  readonly values: unknown[];
}

/**
 * One page of a user's recordings, in two statements: the first finds the ids in an index alone, the second reads them.
 * @throws {ServiceError} BAD_USER_INPUT when the page is too large or contradicts itself, or a cursor is foreign
 */
export async function listRecords(
  { pool, em }: { pool: Pool; em: SqlEntityManager },
  ownerId: number,
  page: PageRequest,
  filter: RecordFilter = {},
  order: RecordOrder = defaultOrder,
): Promise<RecordPage> {
  const { size, backward, after, before } = readPage(page, ownerId, order);
  const { text, values } = pageStatement(ownerId, { size, backward, after, before }, filter, order);
  const { rows } = await pool.query<{ found: RecordPosition[]; earlier: boolean; later: boolean }>(text, values);
  const { found, earlier, later } = rows[0]!;
  const more = found.length > size;
  const positions = found.slice(0, size);
  if (backward) positions.reverse();
  const records = await em.find(AudioRecord, { id: positions.map(({ id }) => id) }, { populate: ["owner"] });
  const byId = new Map(records.map((record) => [record.id, record]));
  return {
    // One that was deleted between the two statements is left out.
    edges: positions.flatMap((position) => {
      const record = byId.get(position.id);
      return record ? [{ cursor: encodeCursor({ ownerId, order }, position), record }] : [];
    }),
    hasPreviousPage: earlier || (backward && more),
    hasNextPage: later || (!backward && more),
    totalCount: more || after || before ? undefined : found.length,
  };
}

/**
 * Makes sure that {@link listRecords} can be asked for this.
 * @throws {ServiceError} as {@link listRecords} does
 */
export function requireListArguments(
  ownerId: number,
  page: PageRequest,
  filter: RecordFilter,
  order: RecordOrder,
): void {
  readPage(page, ownerId, order);
  requireSearchText(filter);
}

/** How many recordings a filter leaves. */
export async function countRecords(pool: Pool, ownerId: number, filter: RecordFilter = {}): Promise<number> {
  const { text, values } = countStatement(ownerId, filter);
  const { rows } = await pool.query<{ count: string }>(text, values);
  return Number(rows[0]!.count);
}

/** The statement of {@link countRecords}. */
export function countStatement(ownerId: number, filter: RecordFilter): Statement {
  const values: unknown[] = [];
  const text = `select count(*) from audio_record where ${conditions(ownerId, filter, parameters(values))}`;
  return { text, values };
}

interface Page {
  readonly size: number;
  /** Whether it is counted from the end. */
  readonly backward: boolean;
  readonly after: RecordPosition | undefined;
  readonly before: RecordPosition | undefined;
}

/**
 * The statement that finds a page: up to one id more than asked for, in the direction of reading, and whether anything
 * lies before `after` and behind `before`.
 */
export function pageStatement(ownerId: number, page: Page, filter: RecordFilter, order: RecordOrder): Statement {
  const values: unknown[] = [];
  const parameter = parameters(values);
  const { column, toKey, fromKey } = sortKeys[order.field];
  const where = conditions(ownerId, filter, parameter);
  // A search reads the index that has the texts, whatever the order; without the fence the planner may read the table.
  const fenced = filter.text != null && order.field !== "CREATED_AT";
  const source = fenced
    ? `(select id, ${column} from audio_record where ${where} offset 0) record where true`
    : `audio_record where ${where}`;
  const compare = (position: RecordPosition, side: "earlier" | "later", orAt = ""): string => {
    const sign = (side === "later") === (order.direction === "ASC") ? ">" : "<";
    return `(${column}, id) ${sign}${orAt} (${fromKey(parameter(position.key))}, ${parameter(position.id)}::uuid)`;
  };
  const { after, before, backward, size } = page;
  const range = [after && compare(after, "later"), before && compare(before, "earlier")].filter(Boolean);
  const direction = (order.direction === "ASC") === backward ? "desc" : "asc";
  // Not "exists", for which the planner forgets the order and reads the table.
  const exists = (position: RecordPosition | undefined, side: "earlier" | "later"): string => {
    if (!position) return "false";
    const nearest = (side === "later") === (order.direction === "ASC") ? "asc" : "desc";
    const beyond = `${source} and ${compare(position, side, "=")}`;
    return `coalesce((select true from ${beyond} order by ${column} ${nearest}, id ${nearest} limit 1), false)`;
  };
  const text = `
    select ${exists(after, "earlier")} as earlier, ${exists(before, "later")} as later, coalesce((
      select json_agg(json_build_object('id', id, 'key', key)) from (
        select id, ${toKey} as key from ${[source, ...range].join(" and ")}
        order by ${column} ${direction}, id ${direction} limit ${size + 1}
      ) page), '[]') as found`;
  return { text, values };
}

function conditions(ownerId: number, filter: RecordFilter, parameter: (value: unknown) => string): string {
  const { text, createdAt, durationSeconds } = filter;
  requireSearchText(filter);
  const words = text == null ? [] : searchWords(text);
  return [
    `owner_id = ${parameter(ownerId)} and state = 'ready'`,
    ...words.map((word) => `search_text like ${parameter(`%${word.replace(/[\\%_]/g, "\\$&")}%`)}`),
    createdAt?.from && `created_at >= ${parameter(createdAt.from)}`,
    createdAt?.before && `created_at < ${parameter(createdAt.before)}`,
    durationSeconds?.min != null && `duration_seconds >= ${parameter(durationSeconds.min)}::float8`,
    durationSeconds?.max != null && `duration_seconds <= ${parameter(durationSeconds.max)}::float8`,
  ]
    .filter(Boolean)
    .join(" and ");
}

function requireSearchText({ text }: RecordFilter): void {
  if (text == null || Array.from(text).length <= maxSearchLength) return;
  const message = `The text of a search must have at most ${maxSearchLength} characters.`;
  throw new ServiceError("BAD_USER_INPUT", message, { argument: "filter.text", maxLength: maxSearchLength });
}

/** Adds values to a statement and names their places in it. */
function parameters(values: unknown[]): (value: unknown) => string {
  return (value) => `$${values.push(value)}`;
}

function readPage({ first, after, last, before }: PageRequest, ownerId: number, order: RecordOrder): Page {
  if (first != null && last != null)
    throw new ServiceError("BAD_USER_INPUT", "Give first or last, not both.", { argument: "last" });
  const size = last ?? first ?? defaultPageSize;
  if (size < 0 || size > maxPageSize) {
    const name = last == null ? "first" : "last";
    throw new ServiceError("BAD_USER_INPUT", `${name} must be from 0 to ${maxPageSize}.`, {
      argument: name,
      max: maxPageSize,
    });
  }
  const scope = { ownerId, order };
  return {
    size,
    backward: last != null,
    after: after == null ? undefined : decodeCursor(scope, after, "after"),
    before: before == null ? undefined : decodeCursor(scope, before, "before"),
  };
}
