import type { ApolloServerPlugin } from "@apollo/server";
import {
  getArgumentValues,
  getNamedType,
  getVariableValues,
  GraphQLError,
  isAbstractType,
  isLeafType,
  Kind,
  type DocumentNode,
  type FieldNode,
  type FragmentDefinitionNode,
  type GraphQLField,
  type GraphQLNamedOutputType,
  type GraphQLObjectType,
  type GraphQLSchema,
  OperationTypeNode,
  type OperationDefinitionNode,
  TypeNameMetaFieldDef,
} from "graphql";
// The execution uses the same functions, so that both see the same fields: with those of fragments, without skipped
// ones.
import { collectFields, collectSubfields } from "graphql/execution/collectFields.js";
import { requireScope, type Caller } from "../caller/caller.ts";
import type { ServiceError } from "../errors/errors.ts";
import type { RequestContext } from "./request-context.ts";
import { AnswerExtent } from "./answer-extent.ts";
import { notTheirOwn } from "./require-self.ts";
import { factsOf, type FieldFacts } from "./field-facts.ts";
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
      contextValue.expectAnswer(extent.bytes);
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
    await refusedAt(field, async () => await check(field, callers.get(field.root), context));
  }
}

/** A field that will be executed. */
interface AskedField {
  readonly key: string;
  /** The response key of the top-level field around it. */
  readonly root: string;
  readonly path: readonly string[];
  readonly isInList: boolean;
  readonly nodes: readonly FieldNode[];
  readonly facts: FieldFacts;
  readonly args: unknown;
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

/**
 * Finds the fields of an operation that will be executed, with their arguments and the maximum size of their results.
 */
export function readOperation(
  schema: GraphQLSchema,
  document: DocumentNode,
  operation: OperationDefinitionNode,
  variables: Record<string, unknown>,
  origin: string,
): { roots: readonly AskedField[]; asked: readonly AskedField[]; extent: AnswerExtent } {
  const fragments: Record<string, FragmentDefinitionNode> = Object.create(null);
  for (const node of document.definitions) {
    if (node.kind === Kind.FRAGMENT_DEFINITION) fragments[node.name.value] = node;
  }
  const asked: AskedField[] = [];
  const extent = new AnswerExtent(origin);

  interface Place {
    readonly path: readonly string[];
    readonly isInList: boolean;
    /** The list around it, and how often a field in it occurs. */
    readonly list: string;
    readonly times: number;
  }
  function read(type: GraphQLObjectType, fields: ReadonlyMap<string, readonly FieldNode[]>, place: Place): void {
    for (const [key, nodes] of fields) {
      const name = nodes[0]!.name.value;
      if (name === TypeNameMetaFieldDef.name) {
        const facts = { maxCharacters: type.name.length };
        const root = place.path[0] ?? key;
        extent.add({ key, root, type: TypeNameMetaFieldDef.type, facts, around: place, inside: place });
      }
      const field = type.getFields()[name];
      if (field) readField(field, key, nodes, place);
    }
  }
  function readField(
    field: GraphQLField<unknown, unknown>,
    key: string,
    nodes: readonly FieldNode[],
    place: Place,
  ): void {
    const facts = factsOf(field);
    const path = [...place.path, key];
    const args = argumentsOf(field, nodes, path, variables);
    asked.push({ key, root: path[0]!, path, isInList: place.isInList, nodes, facts, args });
    const type = getNamedType(field.type);
    const times = place.times * (facts.listLength?.(args) ?? 1);
    const list = facts.listLength ? path.join(".") : place.list;
    extent.add({ key, root: path[0]!, type, facts, around: place, inside: { list, times } });
    const isInList = place.isInList || facts.listLength !== undefined;
    for (const objectType of objectTypesOf(schema, type)) {
      const fields = collectSubfields(schema, fragments, variables, objectType, nodes);
      read(objectType, fields, { path, isInList, list, times });
    }
  }

  const rootType = schema.getRootType(operation.operation);
  if (rootType) {
    const fields = collectFields(schema, fragments, variables, rootType, operation.selectionSet);
    read(rootType, fields, { path: [], isInList: false, list: "", times: 1 });
  }
  return { roots: asked.filter(({ path }) => path.length === 1), asked, extent };
}

function objectTypesOf(schema: GraphQLSchema, type: GraphQLNamedOutputType): readonly GraphQLObjectType[] {
  if (isLeafType(type)) return [];
  return isAbstractType(type) ? schema.getPossibleTypes(type) : [type];
}

/** The arguments as the resolver gets them. Only here is a null from a variable found; the validation accepts it. */
function argumentsOf(
  field: GraphQLField<unknown, unknown>,
  nodes: readonly FieldNode[],
  path: readonly string[],
  variables: Record<string, unknown>,
): unknown {
  try {
    return getArgumentValues(field, nodes[0]!, variables);
  } catch (error) {
    if (!(error instanceof GraphQLError)) throw error;
    throw new GraphQLError(error.message, { nodes: error.nodes, path, originalError: error });
  }
}
