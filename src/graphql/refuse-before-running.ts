import type { GraphQLRequestContextDidResolveOperation, GraphQLRequestContextValidationDidStart } from "@apollo/server";
import {
  getVariableValues,
  GraphQLError,
  Kind,
  OperationTypeNode,
  type DocumentNode,
  type GraphQLSchema,
  type OperationDefinitionNode,
} from "graphql";
import { setImmediate } from "node:timers/promises";
import { requireScope, type Caller } from "../caller/caller.ts";
import type { ServiceError } from "../errors/errors.ts";
import type { RequestContext } from "./request-context.ts";
import { readOperation, type AskedField } from "./asked-fields.ts";
import { notTheirOwn } from "./require-self.ts";
import { refusalOfDocument } from "./query-limits.ts";
import { shorten } from "./shorten.ts";

/** Characters of a text that a message about it needs; messages are shorter. */
const maxTextInMistake = 1000;

/** Characters of all variables up to which every mistake in them is reported. */
const maxCharactersInMistakes = 8 * 1024;

/** The documents that replace documents over a limit, with the reasons for the refusal. */
const refusedDocuments = new WeakMap<DocumentNode, ServiceError>();

/**
 * Replaces a document that is too expensive to validate by an empty one, and notes why: Apollo Server accepts a refusal
 * only after the validation.
 */
export function replaceTooComplex(requestContext: GraphQLRequestContextValidationDidStart<RequestContext>): void {
  const refusal = refusalOfDocument(requestContext.document);
  if (!refusal) return;
  const document: DocumentNode = { kind: Kind.DOCUMENT, definitions: [] };
  refusedDocuments.set(document, refusal);
  Object.assign(requestContext, { document });
}

/**
 * Refuses an operation before any of it has run, for every reason that is known by then: a limit, an argument out of
 * range, a missing token or scope, anywhere in the operation. So a mutation is never half done, or done and answered as
 * refused, for a reason that was already in its text.
 */
export async function refuseBeforeRunning({
  schema,
  document,
  operation,
  request,
  contextValue,
}: GraphQLRequestContextDidResolveOperation<RequestContext>): Promise<void> {
  const refusal = refusedDocuments.get(document);
  if (refusal) throw refusal;
  if (!operation) return;
  const variables = readVariables(schema, operation, request.variables ?? {});
  if (!variables) return;
  const { asked, places, extent } = readOperation(schema, document, operation, variables, contextValue.origin);
  extent.refuseTooMuch();
  const roots = asked.filter(({ path }) => path.length === 1);
  const takesFile = roots.find(({ facts }) => facts.takesFile);
  if (takesFile) extent.refuseTooMuchBefore(takesFile.key);
  await refuseFields(operation, roots, asked, contextValue);
  // Beside other fields, an upload is admitted before any of them runs. A large one has been.
  if (takesFile && roots.length > 1) {
    await refusedAt(takesFile, async () => {
      const owner = await callerOf(takesFile, contextValue);
      if (owner) await contextValue.admitUpload(owner);
    });
  }
  contextValue.expectAnswer(extent.bytes, places);
  // From here on, it may wait for a client.
  if (takesFile || contextValue.expectsLargeAnswer()) contextValue.leaveTurn();
  if (takesFile) return;
  await contextValue.roomForAnswer();
  if (!contextValue.expectsLargeAnswer()) return;
  await contextValue.takeTurn();
  // Parsing and checking took time, too, and in a new process as much as an introspection, which takes no turns.
  await setImmediate();
}

/**
 * Each message about a mistake repeats a value, and making a suggestion takes as much memory as the value, many times over. So large
 * variables are first read with short texts, and answered with one mistake only.
 * @returns undefined if a value is invalid: the execution reads the variables first, too, and reports why
 */
function readVariables(
  schema: GraphQLSchema,
  { variableDefinitions = [] }: OperationDefinitionNode,
  variables: Readonly<Record<string, unknown>>,
): Readonly<Record<string, unknown>> | undefined {
  const { copy, characters } = shorten(variables, maxTextInMistake);
  const isLarge = characters > maxCharactersInMistakes;
  if (isLarge) {
    const [mistake] = getVariableValues(schema, variableDefinitions, copy, { maxErrors: 1 }).errors ?? [];
    if (mistake) {
      // What Apollo says of those that the execution finds.
      Object.assign(mistake.extensions, { code: "BAD_USER_INPUT", http: { status: 400 } });
      throw mistake;
    }
  }
  return getVariableValues(schema, variableDefinitions, variables, { maxErrors: 1 }).coerced;
}

async function refuseFields(
  { operation }: OperationDefinitionNode,
  roots: readonly AskedField[],
  asked: readonly AskedField[],
  context: RequestContext,
): Promise<void> {
  /** Who owns the result of each top-level field that is not refused. */
  const callers = new Map<string, Caller | undefined>();
  for (const root of roots) {
    try {
      callers.set(root.key, await refusedAt(root, async () => await callerOf(root, context)));
    } catch (error) {
      // A query changes nothing, so its other fields may run. This one reports by itself why it failed.
      if (operation !== OperationTypeNode.QUERY) throw error;
    }
  }
  for (const field of asked) {
    if (!callers.has(field.root) || (!field.facts.ownerOnly && !field.facts.check)) continue;
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
