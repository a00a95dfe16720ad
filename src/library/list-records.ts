import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { sql, type Kysely, type RawBuilder, type SqlBool } from "kysely";
import { jsonArrayFrom } from "kysely/helpers/postgres";
import { queryBuilder } from "../database/query-builder.ts";
import { ServiceError } from "../errors/errors.ts";
import {
  decodeCursor,
  encodeCursor,
  type RecordOrder,
  type RecordOrderField,
  type RecordPosition,
} from "./record-cursor.ts";
import {
  AudioRecord,
  bulkyProperties,
  type BulkyProperty,
  type ListedRecord,
  type RecordTables,
} from "../record/record.entity.ts";
import { searchWords } from "../record/search-text.ts";
import { checkedSha256 } from "../record/source-sha256.ts";
import type { Visibility } from "../settings/visibility.ts";

/** Default and maximum number of recordings on a page. */
export const defaultPageSize = 20;
export const maxPageSize = 100;
/** Maximum length of a search text, in characters. */
export const maxSearchLength = 200;

/** Conditions for recordings. Missing conditions match everything. */
export interface RecordFilter {
  /** Words that must all occur in the title, file name or tags; case and accents are ignored. */
  readonly text?: string | null;
  readonly createdAt?: { readonly from?: Date | null; readonly before?: Date | null } | null;
  /** Both ends are inclusive. */
  readonly durationSeconds?: { readonly min?: number | null; readonly max?: number | null } | null;
  readonly visibility?: Visibility | null;
  /** The recording has this tag with exactly this text. */
  readonly tag?: { readonly name: string; readonly value: string } | null;
  /** In hexadecimal digits. */
  readonly sourceSha256?: string | null;
}

/** Arguments of a page, as in the Relay connection specification. */
export interface PageRequest {
  readonly first?: number | null;
  readonly after?: string | null;
  readonly last?: number | null;
  readonly before?: string | null;
}

/** A page of a list. */
export interface RecordPage {
  readonly edges: readonly { readonly cursor: string; readonly record: ListedRecord }[];
  readonly hasPreviousPage: boolean;
  readonly hasNextPage: boolean;
  /** Number of recordings that match the filter, if it is known from the page. */
  readonly totalCount: number | undefined;
}

/** Newest first. */
export const defaultOrder: RecordOrder = { field: "CREATED_AT", direction: "DESC" };

/** A sort order as a client asks for it. */
export interface RecordOrderRequest {
  readonly field: RecordOrderField;
  readonly direction?: RecordOrder["direction"] | null;
}

/** The sort order that a request asks for. Without a direction, titles are sorted from A to Z, all else descending. */
export function orderOf(asked: RecordOrderRequest | null | undefined): RecordOrder {
  if (!asked) return defaultOrder;
  return { field: asked.field, direction: asked.direction ?? (asked.field === "TITLE" ? "ASC" : "DESC") };
}

/** The column of each sort key, and how its value is written to and read from a cursor. */
interface SortKey {
  readonly column: keyof RecordTables["AudioRecord"];
  readonly toKey: (value: RawBuilder<unknown>) => RawBuilder<string | number>;
  readonly fromKey: (key: string | number) => RawBuilder<unknown>;
}

const sortKeys: Readonly<Record<RecordOrderField, SortKey>> = {
  CREATED_AT: {
    column: "createdAt",
    toKey: (value) => sql`(extract(epoch from ${value}) * 1000000)::bigint`,
    fromKey: (key) => sql`timestamptz 'epoch' + ${key}::bigint * interval '1 microsecond'`,
  },
  TITLE: { column: "titleKey", toKey: (value) => sql`${value}`, fromKey: (key) => sql`${key}::text` },
  DURATION: { column: "durationSeconds", toKey: (value) => sql`${value}`, fromKey: (key) => sql`${key}::float8` },
  SIZE: { column: "sizeBytes", toKey: (value) => sql`${value}`, fromKey: (key) => sql`${key}::bigint` },
};

/**
 * Returns one page of a user's recordings. It takes two statements: the first finds the ids in an index alone, the
 * second reads the rows.
 * @param bulky the bulky properties that are read
 * @throws {ServiceError} BAD_USER_INPUT if the page is too large, the arguments contradict each other, or a cursor
 * belongs to another list
 */
export async function listRecords(
  em: SqlEntityManager,
  ownerId: number,
  page: PageRequest,
  filter: RecordFilter = {},
  order: RecordOrder = defaultOrder,
  bulky: readonly BulkyProperty[] = [],
): Promise<RecordPage> {
  const { size, backward, after, before } = readPage(page, ownerId, order);
  const db = queryBuilder<RecordTables>(em);
  const query = pageQuery(db, ownerId, { size, backward, after, before }, filter, order);
  const { found, earlier, later } = await query.executeTakeFirstOrThrow();
  const more = found.length > size;
  const positions = found.slice(0, size);
  if (backward) positions.reverse();
  const records = await em.find(
    AudioRecord,
    { id: positions.map(({ id }) => id) },
    {
      populate: ["owner", ...bulky],
      exclude: bulkyProperties.filter((property) => !bulky.includes(property)),
      disableIdentityMap: true,
    },
  );
  const byId = new Map(records.map((record) => [record.id, record]));
  return {
    // Recordings that were deleted between the two statements are omitted.
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
 * Checks the arguments of {@link listRecords}.
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
  if (filter.sourceSha256 != null) checkedSha256(filter.sourceSha256, "filter.sourceSha256");
}

/** Counts the recordings that match a filter. */
export async function countRecords(em: SqlEntityManager, ownerId: number, filter: RecordFilter = {}): Promise<number> {
  const { count } = await countQuery(queryBuilder(em), ownerId, filter).executeTakeFirstOrThrow();
  return count;
}

/** The statement of {@link countRecords}. */
export function countQuery(db: Kysely<RecordTables>, ownerId: number, filter: RecordFilter) {
  return recordsOf(db, ownerId, filter).select((eb) => eb.fn.countAll<number>().as("count"));
}

interface Page {
  readonly size: number;
  /** Whether the page is counted from the end. */
  readonly backward: boolean;
  readonly after: RecordPosition | undefined;
  readonly before: RecordPosition | undefined;
}

/**
 * The statement that finds a page: up to one id more than requested, in the reading direction, and whether there are
 * recordings before `after` and after `before`.
 */
export function pageQuery(
  db: Kysely<RecordTables>,
  ownerId: number,
  { size, backward, after, before }: Page,
  filter: RecordFilter,
  order: RecordOrder,
) {
  const { column, toKey, fromKey } = sortKeys[order.field];
  // A search should read the index with the texts, whatever the sort order. Without this fence, the planner may read
  // the table.
  const isFenced = filter.text != null && order.field !== "CREATED_AT";
  const records = recordsOf(db, ownerId, filter)
    .select((eb) => ["id", eb.ref(column).as("sortKey")])
    .$if(isFenced, (query) => query.offset(sql.lit(0)))
    .as("record");
  const compare = (position: RecordPosition, side: "earlier" | "later", orAt = sql``): RawBuilder<SqlBool> => {
    const sign = (side === "later") === (order.direction === "ASC") ? sql`>` : sql`<`;
    return sql`(${sql.ref("sortKey")}, ${sql.ref("id")}) ${sign}${orAt} (${fromKey(position.key)}, ${position.id}::uuid)`;
  };
  let page = db.selectFrom(records).select(["id", toKey(sql.ref("sortKey")).as("key")]);
  if (after) page = page.where(compare(after, "later"));
  if (before) page = page.where(compare(before, "earlier"));
  const direction = (order.direction === "ASC") === backward ? "desc" : "asc";
  // Not "exists": the planner would ignore the order and read the table.
  const exists = (position: RecordPosition | undefined, side: "earlier" | "later") => {
    if (!position) return sql.lit(false);
    const nearest = (side === "later") === (order.direction === "ASC") ? "asc" : "desc";
    const beyond = db
      .selectFrom(records)
      .select(sql.lit(true).as("found"))
      .where(compare(position, side, sql`=`))
      .orderBy("sortKey", nearest)
      .orderBy("id", nearest)
      .limit(sql.lit(1));
    return sql<boolean>`coalesce(${beyond}, false)`;
  };
  return db.selectNoFrom([
    exists(after, "earlier").as("earlier"),
    exists(before, "later").as("later"),
    jsonArrayFrom(
      page
        .orderBy("sortKey", direction)
        .orderBy("id", direction)
        .limit(sql.lit(size + 1)),
    ).as("found"),
  ]);
}

/** The ready recordings of a user that match a filter. */
function recordsOf(db: Kysely<RecordTables>, ownerId: number, filter: RecordFilter) {
  requireSearchText(filter);
  const { text, createdAt, durationSeconds, visibility, tag, sourceSha256 } = filter;
  let records = db.selectFrom("AudioRecord").where("ownerId", "=", ownerId).where("state", "=", "ready");
  for (const word of text == null ? [] : searchWords(text)) {
    records = records.where("searchText", "like", `%${word.replace(/[\\%_]/g, "\\$&")}%`);
  }
  if (createdAt?.from) records = records.where("createdAt", ">=", createdAt.from);
  if (createdAt?.before) records = records.where("createdAt", "<", createdAt.before);
  if (durationSeconds?.min != null) records = records.where("durationSeconds", ">=", durationSeconds.min);
  if (durationSeconds?.max != null) records = records.where("durationSeconds", "<=", durationSeconds.max);
  if (visibility != null) records = records.where("visibility", "=", visibility);
  if (tag != null) records = records.where(hasTag(tag));
  if (sourceSha256 != null)
    records = records.where("sourceSha256", "=", checkedSha256(sourceSha256, "filter.sourceSha256"));
  return records;
}

/** PostgreSQL's JSON cannot have a NUL or half of a surrogate pair, so no recording has such a tag. */
function hasTag({ name, value }: { readonly name: string; readonly value: string }): RawBuilder<SqlBool> {
  const isPossible = [name, value].every((text) => text.isWellFormed() && !text.includes("\0"));
  return isPossible ? sql`${sql.ref("tags")} @> ${JSON.stringify([{ name, value }])}::jsonb` : sql`false`;
}

function requireSearchText({ text }: RecordFilter): void {
  // A code point has at most two UTF-16 units: a text that is too long in every form is not taken apart.
  if (text == null || (text.length <= 2 * maxSearchLength && Array.from(text).length <= maxSearchLength)) return;
  const message = `The search text may have at most ${maxSearchLength} characters.`;
  throw new ServiceError("BAD_USER_INPUT", message, { argument: "filter.text", maxLength: maxSearchLength });
}

function readPage({ first, after, last, before }: PageRequest, ownerId: number, order: RecordOrder): Page {
  if (first != null && last != null)
    throw new ServiceError("BAD_USER_INPUT", "Give either first or last, not both.", { argument: "last" });
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
