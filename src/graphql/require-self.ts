import { requireScope, type TokenScope } from "../caller/caller.ts";
import { ServiceError } from "../errors/errors.ts";
import type { RequestContext } from "./request-context.ts";

/**
 * Allows a user's private fields only to that user, with a token that has the scope, whichever query or mutation
 * reaches them.
 * @throws {ServiceError} UNAUTHENTICATED or FORBIDDEN
 */
export async function requireSelf(context: RequestContext, userId: string, scope: TokenScope): Promise<void> {
  const caller = await context.callerAs(userId);
  if (userId !== String(caller.id)) throw notTheirOwn();
  requireScope(caller, scope);
}

/** The error for fields that only the user may select. */
export function notTheirOwn(): ServiceError {
  return new ServiceError("FORBIDDEN", "This field is only available for the user of the Bearer token.");
}
