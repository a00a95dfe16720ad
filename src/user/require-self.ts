import { ServiceError } from "../errors.ts";
import type { RequestContext } from "../request-context.ts";

/**
 * Makes sure that what is asked of a user is asked by that user, wherever in an answer the user stands.
 * @throws {ServiceError} UNAUTHENTICATED or FORBIDDEN
 */
export async function requireSelf(context: RequestContext, userId: string): Promise<void> {
  const caller = await context.caller();
  if (userId !== String(caller.id)) {
    throw new ServiceError("FORBIDDEN", "Only the user of the Bearer token can be asked for this.");
  }
}
