import { randomBytes } from "node:crypto";
import { v7 as uuidv7 } from "uuid";

/**
 * A UUID of version 7 (RFC 9562 section 5.7): the time in milliseconds, so that new rows lie side by side in the index,
 * and 73 random bits. They are passed in, because the library would only count within a millisecond, and whoever knows
 * the link of one recording must not come closer to another's.
 */
export function newRecordId(): string {
  return uuidv7({ random: randomBytes(16) });
}
