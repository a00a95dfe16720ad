import { createHmac, timingSafeEqual } from "node:crypto";
import { NIL, parse as bytesOfUuid } from "uuid";
import { ServiceError } from "../errors/errors.ts";
import { parseUserId } from "../record/parse-link.ts";
import { type RecordAddress } from "../record/record-url.ts";

/** How long a play link can be valid, in seconds. */
export const leastPlaySeconds = 60;
export const mostPlaySeconds = 86_400;

/** In place of the id of a token, for the caller of an identity provider. */
export const noToken = NIL;

/** What a play link says and its signature vouches for. */
export interface PlayTerms extends RecordAddress {
  /** Id of the token that asked for the link, and with which it is revoked; {@link noToken} if there was none. */
  readonly tokenId: string;
  /** When the link expires, in seconds since 1970. */
  readonly expiresAt: number;
}

/** Ids of recording and token, 16 bytes each; id of the user and expiry, 4 bytes each; half of an HMAC-SHA256. */
const [termsBytes, signatureBytes] = [40, 16];

/** @throws {ServiceError} BAD_USER_INPUT */
export function requirePlaySeconds(validSeconds: number): void {
  if (validSeconds >= leastPlaySeconds && validSeconds <= mostPlaySeconds) return;
  const message = `validSeconds must be from ${leastPlaySeconds} to ${mostPlaySeconds}.`;
  const bounds = { min: leastPlaySeconds, max: mostPlaySeconds };
  throw new ServiceError("BAD_USER_INPUT", message, { argument: "validSeconds", ...bounds });
}

/**
 * When a link expires that is asked for now, in seconds since 1970. For a quarter of its time, the same request gets
 * the same link, so that browsers can use again what they have of the recording. It never outlives the token.
 * @param tokenExpiresAt when the caller's token expires; null if never
 */
export function playExpiry(validSeconds: number, tokenExpiresAt: Date | null, now = Date.now()): number {
  const step = validSeconds / 4;
  const expiresAt = Math.ceil(Math.ceil((now / 1000 + validSeconds) / step) * step);
  return tokenExpiresAt ? Math.min(expiresAt, Math.floor(tokenExpiresAt.getTime() / 1000)) : expiresAt;
}

/**
 * Makes the last part of a play link's address: its terms and their signature.
 * @param key the owner's `playKey`, a UUID
 */
export function signPlayLink(key: string, { recordId, userId, tokenId, expiresAt }: PlayTerms): string {
  const terms = Buffer.alloc(termsBytes);
  terms.set(bytesOfUuid(recordId), 0);
  terms.set(bytesOfUuid(tokenId), 16);
  terms.writeUInt32BE(userId, 32);
  terms.writeUInt32BE(expiresAt, 36);
  return Buffer.concat([terms, signatureOf(terms, key)]).toString("base64url");
}

/** Reads what {@link signPlayLink} made; undefined if it is something else. The signature has to be checked. */
export function readPlayLink(
  given: string,
): { readonly terms: PlayTerms; isSignedWith(key: string): boolean } | undefined {
  const bytes = Buffer.from(given, "base64url");
  if (bytes.length !== termsBytes + signatureBytes || bytes.toString("base64url") !== given) return undefined;
  const [terms, signature] = [bytes.subarray(0, termsBytes), bytes.subarray(termsBytes)];
  const userId = parseUserId(String(terms.readUInt32BE(32)));
  if (userId === undefined) return undefined;
  return {
    terms: {
      recordId: hyphenated(terms.subarray(0, 16)),
      tokenId: hyphenated(terms.subarray(16, 32)),
      userId,
      expiresAt: terms.readUInt32BE(36),
    },
    isSignedWith: (key) => timingSafeEqual(signature, signatureOf(terms, key)),
  };
}

function signatureOf(terms: Buffer, key: string): Buffer {
  return createHmac("sha256", bytesOfUuid(key)).update("play").update(terms).digest().subarray(0, signatureBytes);
}

function hyphenated(bytes: Buffer): string {
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
