import { ServiceError } from "../errors/errors.ts";

/**
 * Scopes of tokens. READ allows queries, WRITE changes of recordings and links, UPLOAD only uploads and reading the
 * token's own uploads, and MANAGE changes of the user and the tokens.
 */
export const tokenScopes = ["READ", "WRITE", "UPLOAD", "MANAGE"] as const;
export type TokenScope = (typeof tokenScopes)[number];

/** A user whose token has been checked. */
export interface Caller {
  readonly id: number;
  readonly name: string;
  readonly createdAt: Date;
  /** Whether the operator created, invited or gave a quota to the user. */
  readonly isVouchedFor: boolean;
  /** The token's id; null for the operator and for tokens of an identity provider, which have none. */
  readonly tokenId: string | null;
  /** The token's scopes. */
  readonly scopes: readonly TokenScope[];
  /** When the token expires; null if never. */
  readonly expiresAt: Date | null;
  /** The user's `playKey`, a secret that never leaves the service; null if it was not read or there is none yet. */
  readonly playKey: string | null;
}

/** Whether a token has a scope. WRITE includes UPLOAD. */
export function hasScope({ scopes }: Pick<Caller, "scopes">, scope: TokenScope): boolean {
  return scopes.includes(scope) || (scope === "UPLOAD" && scopes.includes("WRITE"));
}

/**
 * Checks that a token has a scope.
 * @param scopes any one of them is enough; the error names the first
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
