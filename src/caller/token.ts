import { hash } from "node:crypto";

/**
 * The token in an `Authorization: Bearer <token>` header (RFC 6750 section 2.1); undefined if there is none. A proxy's
 * credentials may be present too, in a second header or after a comma. The token's form is not checked, so that a
 * malformed token is answered like a wrong one.
 * @param authorization all headers with this name
 */
export function bearerToken(authorization: readonly string[] = []): string | undefined {
  return /(?:^|,)\s*Bearer\s+([^\s,][^,]*)/i.exec(authorization.join(", "))?.[1]?.trimEnd();
}

/** The SHA-256 of a token or invitation code, which is what the database stores. */
export function hashToken(token: string): Buffer {
  return hash("sha256", token.toLowerCase(), "buffer");
}
