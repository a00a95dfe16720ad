import type { ApolloServerPlugin } from "@apollo/server";
import {
  getVariableValues,
  GraphQLError,
  Kind,
  OperationTypeNode,
  type DocumentNode,
  type OperationDefinitionNode,
} from "graphql";
import { requireScope, type Caller } from "../caller/caller.ts";
import type { ServiceError } from "../errors/errors.ts";
import type { RequestContext } from "./request-context.ts";
import { readOperation, type AskedField } from "./asked-fields.ts";
import { notTheirOwn } from "./require-self.ts";
import { refusalOfDocument } from "./query-limits.ts";

/** The documents that replace documents over a limit, with the reasons for the refusal. */
const refusedDocuments = new WeakMap<DocumentNode, ServiceError>();

/**
 * Refuses an operation before any of it has run, for every reason that is known by then: a limit, an argument out of
 * range, a missing token or scope, anywhere in the operation. So a mutation is never half done, or done and answered as
 * refused, for a reason that was already in its text.
 */
export const refuseBeforeRunning: ApolloServerPlugin<RequestContext> = {
  requestDidStart: async () => ({
    // Apollo Server accepts a refusal by a plugin only after the validation. A document that is too expensive to
    // validate is replaced by an empty one.
    validationDidStart: async (requestContext) => {
      const refusal = refusalOfDocument(requestContext.document);
      if (!refusal) return;
      const document: DocumentNode = { kind: Kind.DOCUMENT, definitions: [] };
      refusedDocuments.set(document, refusal);
      Object.assign(requestContext, { document });
    },
    didResolveOperation: async ({ schema, document, operation, request, contextValue }) => {
      const refusal = refusedDocuments.get(document);
      if (refusal) throw refusal;
      if (!operation) return;
      const definitions = operation.variableDefinitions ?? [];
      const { coerced: variables } = getVariableValues(schema, definitions, request.variables ?? {}, { maxErrors: 1 });
      if (!variables) return; // the execution does the same first and reports why
      const { roots, asked, extent } = readOperation(schema, document, operation, variables, contextValue.origin);
      extent.refuseTooMuch();
      const takesFile = roots.find(({ facts }) => facts.takesFile);
      if (takesFile) extent.refuseTooMuchBefore(takesFile.key);
      await refuseFields(operation, roots, asked, contextValue);
      contextValue.expectAnswer(extent.bytes, new Set(asked.map(({ coordinate }) => coordinate)));
      // From here on, it may wait for a client.
      if (takesFile || contextValue.expectsLargeAnswer()) contextValue.leaveTurn();
      if (!takesFile) await contextValue.roomForAnswer();
    },
  }),
};

async function refuseFields(
  { operation }: OperationDefinitionNode,
  roots: readonly AskedField[],
  asked: readonly AskedField[],
  context: RequestContext,
): Promise<void> {
  const callers = new Map<string, Caller | undefined>();
  for (const root of roots) {
    try {
      callers.set(root.key, await refusedAt(root, async () => await callerOf(root, context)));
    } catch (error) {
      // A query changes nothing, so it may run. Each of its fields reports by itself why it failed.
      if (operation === OperationTypeNode.QUERY) return;
      throw error;
    }
  }
  for (const field of asked) {
    if (!field.facts.ownerOnly && !field.facts.check) continue;
    await refusedAt(field, async () => await check(field, callers.get(field.root), context));
  }
}

async function callerOf({ facts, args }: AskedField, context: RequestContext): Promise<Caller | undefined> {
  return facts.answersTo ? await facts.answersTo(args, context) : await context.caller();
}

async function check(
  { facts, args, isInList }: AskedField,
  owner: Caller | undefined,
  context: RequestContext,
): Promise<void> {
  if (facts.ownerOnly) {
    if (!owner) {
      await context.caller();
      throw notTheirOwn();
    }
    requireScope(owner, facts.ownerOnly);
  }
  facts.check?.(args, { ownerId: owner?.id ?? 0, isInList });
}

/** Adds the field to an error. */
async function refusedAt<T>({ nodes, path }: AskedField, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw error instanceof Error ? new GraphQLError(error.message, { nodes, path, originalError: error }) : error;
  }
}
