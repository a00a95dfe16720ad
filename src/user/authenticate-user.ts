import type { Pool } from "pg";
import { ServiceError } from "../errors.ts";
import { hashToken } from "./create-user.ts";

/** Somebody whose token has been checked. */
export interface Caller {
  readonly id: number;
  readonly name: string;
  readonly createdAt: Date;
}

/**
 * Finds the user whose token this is, by one indexed look-up of the token's hash: no comparison of secrets takes place
 * here, and an unknown user, a wrong token and a malformed token cost the same and get the same answer.
 * @param userId when given, the token must be this user's
 * @throws {ServiceError} UNAUTHENTICATED
 */
export async function authenticateUser(pool: Pool, token: string, userId?: string): Promise<Caller> {
  const { rows } = await pool.query<{ id: number; name: string; created_at: string }>(
    `select app_user.id, app_user.name, app_user.created_at
     from access_token join app_user on app_user.id = access_token.owner_id
     where access_token.sha256 = $1`,
    [hashToken(token)],
  );
  const user = rows[0];
  if (!user || (userId !== undefined && userId !== String(user.id))) {
    throw new ServiceError(
      "UNAUTHENTICATED",
      "The user id and token do not belong together, or the token is not valid.",
    );
  }
  return { id: user.id, name: user.name, createdAt: new Date(user.created_at) };
}

/**
 * The token in an `Authorization: Bearer <token>` header (RFC 6750 section 2.1); undefined without such a header.
 * @throws {ServiceError} UNAUTHENTICATED when the header has another form
 */
export function bearerToken(authorization: string | undefined): string | undefined {
  if (!authorization) return undefined;
  const token = /^Bearer +([\w.~+/-]+=*) *$/i.exec(authorization)?.[1];
  if (token === undefined) {
    throw new ServiceError("UNAUTHENTICATED", "The Authorization header must have the form: Bearer <token>.");
  }
  return token;
}
