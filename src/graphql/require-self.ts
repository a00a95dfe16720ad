import { requireScope, type TokenScope } from "../caller/caller.ts";
import { ServiceError } from "../errors/errors.ts";
import type { RequestContext } from "./request-context.ts";

/**
 * Makes sure that what is asked of a user is asked by that user, with a token that has the scope, wherever in an answer
 * the user stands: a mutation's answer gives no more to read than a query does.
 * @throws {ServiceError} UNAUTHENTICATED or FORBIDDEN
 */
export async function requireSelf(context: RequestContext, userId: string, scope: TokenScope): Promise<void> {
  const caller = await context.callerAs(userId);
  if (userId !== String(caller.id)) throw notTheirOwn();
  requireScope(caller, scope);
}

/** The refusal of what only the user themselves may ask. */
export function notTheirOwn(): ServiceError {
  return new ServiceError("FORBIDDEN", "This field is only available for the user of the Bearer token.");
}
