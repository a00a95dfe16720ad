import { createHash } from "node:crypto";

/**
 * The token in an `Authorization: Bearer <token>` header (RFC 6750 section 2.1); undefined where there is none. A proxy's
 * credentials may stand beside it, in a header of their own or behind a comma. Whatever stands there as the token is
 * looked up, so that a malformed one is answered like a wrong one.
 * @param authorization every header of this name
 */
export function bearerToken(authorization: readonly string[] = []): string | undefined {
  return /(?:^|,)\s*Bearer\s+([^\s,][^,]*)/i.exec(authorization.join(", "))?.[1]?.trimEnd();
}

/** What is stored of a token, or of an invitation's code: its SHA-256. */
export function hashToken(token: string): Buffer {
  return createHash("sha256").update(token.toLowerCase()).digest();
}
