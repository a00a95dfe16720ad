import { graphql, type GraphQLSchema } from "graphql";
import type { Caller } from "../caller/caller.ts";
import type { RequestContext } from "./request-context.ts";

/**
 * Runs a query of the service's own for this caller, with the scope READ, in the context of a request to another route.
 * @throws the error of the first field that fails
 */
export async function runAs(
  schema: GraphQLSchema,
  caller: Caller,
  context: RequestContext,
  source: string,
  variableValues: Readonly<Record<string, unknown>>,
): Promise<unknown> {
  const reader = async () => ({ ...caller, scopes: ["READ"] as const });
  const contextValue: RequestContext = { ...context, caller: reader, callerAs: reader };
  const { data, errors } = await graphql({ schema, source, variableValues, contextValue });
  const [error] = errors ?? [];
  if (error) throw error.originalError ?? error;
  return data;
}
