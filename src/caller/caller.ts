import { ServiceError } from "../errors/errors.ts";

/**
 * What a token can allow: READ the queries, WRITE every change of recordings and their links, UPLOAD of these to add
 * recordings and to read what the same token has added, MANAGE the user and the tokens.
 */
export const tokenScopes = ["READ", "WRITE", "UPLOAD", "MANAGE"] as const;
export type TokenScope = (typeof tokenScopes)[number];

/** Somebody whose token has been checked. */
export interface Caller {
  readonly id: number;
  readonly name: string;
  readonly createdAt: Date;
  /** Made by the operator, invited, or given a quota: no stranger. */
  readonly isVouchedFor: boolean;
  /** The token's id; null for the operator, who needs none. */
  readonly tokenId: string | null;
  /** What the token allows. */
  readonly scopes: readonly TokenScope[];
  /** When the token stops to be valid; null: never. */
  readonly expiresAt: Date | null;
}

/** Whether a token has a scope. WRITE includes UPLOAD. */
export function hasScope({ scopes }: Pick<Caller, "scopes">, scope: TokenScope): boolean {
  return scopes.includes(scope) || (scope === "UPLOAD" && scopes.includes("WRITE"));
}

/**
 * Makes sure that a token allows what is asked of it.
 * @param scopes any one of them is enough; the refusal names the first
 * @throws {ServiceError} FORBIDDEN
 */
export function requireScope(caller: Caller, ...scopes: readonly [TokenScope, ...TokenScope[]]): void {
  if (scopes.some((scope) => hasScope(caller, scope))) return;
  const [scope] = scopes;
  const message =
    `This needs a token with the scope ${scopes.join(" or ")}; this one has ${caller.scopes.join(", ")}. ` +
    "Use another token, or create one with createToken.";
  throw new ServiceError("FORBIDDEN", message, { scope });
}
