import { ServiceError } from "../errors/errors.ts";
import { parseRecordId } from "../record/parse-link.ts";
import { maxTitleKeyBytes } from "../record/search-text.ts";

/** Sort keys of recordings. */
export type RecordOrderField = "CREATED_AT" | "TITLE" | "DURATION" | "SIZE";

/** Sort order of recordings. Ties are sorted by id. */
export interface RecordOrder {
  readonly field: RecordOrderField;
  readonly direction: "ASC" | "DESC";
}

/** A position in a list: that of a recording that is or was there. */
export interface RecordPosition {
  /** Microseconds since 1970, the title's sort key, seconds or bytes. */
  readonly key: string | number;
  readonly id: string;
}

/** The list to which a cursor belongs. */
interface CursorScope {
  readonly ownerId: number;
  readonly order: RecordOrder;
}

/** Maximum length of a cursor, in characters: base64url of JSON, in which escapes may double the length of a title. */
export const maxCursorLength = Math.ceil((4 / 3) * (2 * maxTitleKeyBytes + 100));

/** Encodes a position as an opaque cursor, which stays valid when recordings are added, changed or deleted. */
export function encodeCursor({ ownerId, order }: CursorScope, { key, id }: RecordPosition): string {
  return Buffer.from(JSON.stringify([ownerId, order.field, order.direction, key, id])).toString("base64url");
}

/**
 * Decodes a cursor of the same list.
 * @throws {ServiceError} BAD_USER_INPUT if it is not a cursor, or belongs to another user or sort order
 */
export function decodeCursor(
  { ownerId, order }: CursorScope,
  cursor: string,
  argument: "after" | "before",
): RecordPosition {
  const parts = parse(cursor);
  if (parts?.length === 5) {
    const [owner, field, direction, key, given] = parts;
    const id = parseRecordId(given);
    if (owner === ownerId && field === order.field && direction === order.direction && id && isKey(order, key)) {
      return { key, id };
    }
  }
  throw new ServiceError(
    "BAD_USER_INPUT",
    "The cursor does not belong to this list and sort order. Start again without it.",
    { argument },
  );
}

function isKey({ field }: RecordOrder, key: unknown): key is string | number {
  if (field === "TITLE") return typeof key === "string" && key.isWellFormed() && !key.includes("\0");
  return typeof key === "number" && (field === "DURATION" ? Number.isFinite(key) : Number.isSafeInteger(key));
}

function parse(cursor: string): unknown[] | undefined {
  try {
    const parts: unknown = JSON.parse(Buffer.from(cursor, "base64url").toString());
    return Array.isArray(parts) ? parts : undefined;
  } catch {
    return undefined;
  }
}
