import {
  getArgumentValues,
  getNamedType,
  GraphQLError,
  isAbstractType,
  isLeafType,
  Kind,
  SchemaMetaFieldDef,
  TypeMetaFieldDef,
  TypeNameMetaFieldDef,
  type DocumentNode,
  type FieldNode,
  type FragmentDefinitionNode,
  type GraphQLField,
  type GraphQLNamedOutputType,
  type GraphQLObjectType,
  type GraphQLOutputType,
  type GraphQLSchema,
  type OperationDefinitionNode,
} from "graphql";
// The execution uses the same functions, so that both see the same fields: with those of fragments, without skipped
// ones.
import { collectFields, collectSubfields } from "graphql/execution/collectFields.js";
import { AnswerExtent } from "./answer-extent.ts";
import { factsOf, type FieldFacts } from "./field-facts.ts";
import type { FieldPlaces } from "./request-context.ts";

/** A field that an operation selects: all that does not depend on the values of variables. */
interface SelectedField {
  readonly key: string;
  /** Its type and its name, such as `Recording.tags`. */
  readonly coordinate: string;
  /** The response key of the top-level field around it. */
  readonly root: string;
  readonly path: readonly string[];
  readonly isInList: boolean;
  readonly nodes: readonly FieldNode[];
  /** Undefined for `__typename`, `__schema` and `__type`. */
  readonly definition: GraphQLField<unknown, unknown> | undefined;
  readonly type: GraphQLOutputType;
  readonly facts: FieldFacts;
  /** Position of the field around it among all selected fields; undefined for a top-level field. */
  readonly outer: number | undefined;
}

/** A field that will be executed, with its arguments as the resolver gets them. */
export interface AskedField extends Pick<
  SelectedField,
  "key" | "coordinate" | "root" | "path" | "isInList" | "nodes" | "facts"
> {
  readonly args: unknown;
}

/** The fields of an operation in the order of its text, each before those inside of it. */
interface Selection {
  readonly schema: GraphQLSchema;
  readonly fields: readonly SelectedField[];
  readonly places: FieldPlaces;
  /** The last answer's, if it does not depend on arguments. */
  fixedExtent?: { readonly origin: string; readonly extent: AnswerExtent };
}

/** Selections of documents that Apollo Server keeps, for as long as it keeps them. */
const selections = new WeakMap<OperationDefinitionNode, Selection>();

/**
 * Characters of the document for each field that is kept. So what is kept has a limit, which is that of the documents.
 */
const charactersPerField = 8;

const noArguments = {};

/**
 * Finds the fields of an operation that will be executed, with their arguments and the maximum size of their results.
 */
export function readOperation(
  schema: GraphQLSchema,
  document: DocumentNode,
  operation: OperationDefinitionNode,
  variables: Record<string, unknown>,
  origin: string,
): { asked: readonly AskedField[]; places: FieldPlaces; extent: AnswerExtent } {
  const selection = selectionOf(schema, document, operation, variables);
  const args = selection.fields.map(({ definition, nodes, path }) =>
    definition && definition.args.length > 0 ? argumentsOf(definition, nodes, path, variables) : noArguments,
  );
  const asked: AskedField[] = [];
  for (const [at, field] of selection.fields.entries()) {
    if (!field.definition) continue;
    const { key, coordinate, root, path, isInList, nodes, facts } = field;
    asked.push({ key, coordinate, root, path, isInList, nodes, facts, args: args[at] });
  }
  return { asked, places: selection.places, extent: extentOf(selection, args, origin) };
}

function extentOf(selection: Selection, args: readonly unknown[], origin: string): AnswerExtent {
  const { fields, fixedExtent } = selection;
  if (fixedExtent?.origin === origin) return fixedExtent.extent;
  const extent = new AnswerExtent(origin);
  /** The list around the values of each field, and how often they occur in all. */
  const insides: { readonly list: string; readonly times: number }[] = [];
  for (const [at, { key, root, path, nodes, type, facts, outer }] of fields.entries()) {
    const around = outer === undefined ? { list: "", times: 1 } : insides[outer]!;
    const length = facts.listLength?.(args[at]);
    const inside = length === undefined ? around : { list: path.join("."), times: around.times * length };
    insides.push(inside);
    const name = nodes[0]!.name.value;
    if (asksForSchema(name)) extent.addIntrospection(root, name);
    else extent.add({ key, root, type, facts, around, inside });
  }
  if (fields.every(({ facts }) => !facts.listLength)) selection.fixedExtent = { origin, extent };
  return extent;
}

function selectionOf(
  schema: GraphQLSchema,
  document: DocumentNode,
  operation: OperationDefinitionNode,
  variables: Record<string, unknown>,
): Selection {
  const known = selections.get(operation);
  if (known?.schema === schema) return known;
  const fields = selectedFields(schema, document, operation, variables);
  const places = Map.groupBy(fields, ({ coordinate }) => coordinate);
  const selection = { schema, fields, places };
  const text = document.loc?.source.body ?? "";
  // Directives can skip fields, depending on variables.
  if (selection.fields.length * charactersPerField <= text.length && !text.includes("@")) {
    selections.set(operation, selection);
  }
  return selection;
}

function selectedFields(
  schema: GraphQLSchema,
  document: DocumentNode,
  operation: OperationDefinitionNode,
  variables: Record<string, unknown>,
): SelectedField[] {
  const fragments: Record<string, FragmentDefinitionNode> = Object.create(null);
  for (const node of document.definitions) {
    if (node.kind === Kind.FRAGMENT_DEFINITION) fragments[node.name.value] = node;
  }
  const selected: SelectedField[] = [];

  function read(
    type: GraphQLObjectType,
    fields: ReadonlyMap<string, readonly FieldNode[]>,
    place: Pick<SelectedField, "path" | "isInList" | "outer">,
  ): void {
    for (const [key, nodes] of fields) {
      const name = nodes[0]!.name.value;
      const definition = type.getFields()[name];
      const path = [...place.path, key];
      const field = { ...place, key, coordinate: `${type.name}.${name}`, root: path[0]!, path, nodes };
      if (asksForSchema(name))
        selected.push({ ...field, definition: undefined, type: SchemaMetaFieldDef.type, facts: {} });
      if (name === TypeNameMetaFieldDef.name) {
        const facts = { maxCharacters: type.name.length };
        selected.push({ ...field, definition: undefined, type: TypeNameMetaFieldDef.type, facts });
      }
      if (!definition) continue;
      const named = getNamedType(definition.type);
      const facts = factsOf(definition);
      const outer = selected.push({ ...field, definition, type: named, facts }) - 1;
      const isInList = place.isInList || facts.listLength !== undefined;
      for (const objectType of objectTypesOf(schema, named)) {
        read(objectType, collectSubfields(schema, fragments, variables, objectType, nodes), { path, isInList, outer });
      }
    }
  }

  const rootType = schema.getRootType(operation.operation);
  if (rootType) {
    const fields = collectFields(schema, fragments, variables, rootType, operation.selectionSet);
    read(rootType, fields, { path: [], isInList: false, outer: undefined });
  }
  return selected;
}

function asksForSchema(name: string): boolean {
  return name === SchemaMetaFieldDef.name || name === TypeMetaFieldDef.name;
}

function objectTypesOf(schema: GraphQLSchema, type: GraphQLNamedOutputType): readonly GraphQLObjectType[] {
  if (isLeafType(type)) return [];
  return isAbstractType(type) ? schema.getPossibleTypes(type) : [type];
}

/** The arguments as the resolver gets them. Only here is a null from a variable found; the validation accepts it. */
function argumentsOf(
  definition: GraphQLField<unknown, unknown>,
  nodes: readonly FieldNode[],
  path: readonly string[],
  variables: Record<string, unknown>,
): unknown {
  try {
    return getArgumentValues(definition, nodes[0]!, variables);
  } catch (error) {
    if (!(error instanceof GraphQLError)) throw error;
    throw new GraphQLError(error.message, { nodes: error.nodes, path, originalError: error });
  }
}
