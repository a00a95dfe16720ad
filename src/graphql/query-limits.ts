import {
  Kind,
  type DocumentNode,
  type FragmentDefinitionNode,
  type OperationDefinitionNode,
  type SelectionNode,
  type SelectionSetNode,
} from "graphql";
import { ServiceError } from "../errors/errors.ts";

/** Limits of one operation. Those that do not depend on variables count a fragment each time that it is spread. */
export const queryLimits = {
  /** Tokens of the document. This limits the work before anything else is known. */
  maxTokens: 2000,
  /** Levels of nested fields. Introspection (`__schema`, `__type`) does not count. */
  maxDepth: 12,
  maxAliases: 50,
  maxAliasCharacters: 100,
  /** Times that an operation may ask for `__schema`. Introspection is not resolved in turns, so it has to be small. */
  maxSchemas: 1,
  /** Aliases inside `__schema` and `__type`, which would multiply the answer. */
  maxSchemaAliases: 0,
  /** Top-level fields. */
  maxRootFields: 20,
  maxFields: 1000,
  /** Occurrences of the same field in one selection. The validation compares each of them with all others. */
  maxRepetitions: 32,
  /**
   * Values that the response can have with the given variables. A field inside lists counts once for each combination
   * of their elements.
   */
  maxValues: 250_000,
  /** Characters that the response can have. Each text counts with its maximum length. */
  maxCharacters: 16_000_000,
  /** Memory for what is answered before the field that takes a file: it is kept for as long as the file arrives. */
  maxBytesBeforeFile: 64 * 1024,
};

/** The limits that an operation can exceed. */
export type QueryLimits = typeof queryLimits;

/**
 * The error for an operation that exceeds a limit.
 * @param found the number that was found
 * @param field the field that causes it, as its path in the response
 */
export function tooComplex(
  sentence: string,
  limit: keyof QueryLimits,
  details: { found?: number; field?: string } = {},
): ServiceError {
  return new ServiceError("QUERY_TOO_COMPLEX", sentence, { [limit]: queryLimits[limit], ...details });
}

/** A field with the path from it to the deepest field inside. */
interface Step {
  readonly name: string;
  readonly inside: Step | undefined;
}

interface Extent {
  depth: number;
  deepest: Step | undefined;
  aliases: number;
  longestAlias: string;
  /** How often `__schema` is selected, and the aliases inside it and `__type`. */
  schemas: number;
  schemaAliases: number;
  fields: number;
  /** How often each name occurs here, including the fields of fragments. */
  readonly names: Map<string, number>;
  /** The name that occurs most often in any one selection inside. */
  mostRepeated: { readonly name: string; readonly times: number };
}

/**
 * Measures a document by its syntax alone, in time proportional to its length. It runs before the validation, which can
 * take a hundred times as long for a malicious document.
 * @returns the error, if any of its operations exceeds a limit
 */
export function refusalOfDocument(document: DocumentNode): ServiceError | undefined {
  const measure = measureOf(document);
  for (const definition of document.definitions) {
    if (definition.kind !== Kind.OPERATION_DEFINITION && definition.kind !== Kind.FRAGMENT_DEFINITION) continue;
    const refusal = refusalOfDefinition(definition, measure(definition.selectionSet));
    if (refusal) return refusal;
  }
  return undefined;
}

function refusalOfDefinition(
  { kind }: OperationDefinitionNode | FragmentDefinitionNode,
  { depth, deepest, aliases, longestAlias, schemas, schemaAliases, fields, names, mostRepeated }: Extent,
): ServiceError | undefined {
  const rootFields = [...names.values()].reduce((sum, times) => sum + times, 0);
  const ofOperation = [
    ["maxDepth", "levels of nested fields", depth, pathOf(deepest)],
    ["maxAliases", "aliases", aliases],
    ["maxRootFields", "top-level fields", rootFields],
    ["maxSchemas", "`__schema`", schemas],
    ["maxSchemaAliases", "aliases inside `__schema` and `__type`", schemaAliases],
  ] as const;
  const checks = [
    ["maxFields", "fields", fields],
    ...(kind === Kind.OPERATION_DEFINITION ? ofOperation : []),
    ["maxRepetitions", "occurrences of the same field in one selection", mostRepeated.times, mostRepeated.name],
    ["maxAliasCharacters", "characters in an alias", longestAlias.length],
  ] as const;
  for (const [limit, what, found, field] of checks) {
    if (found <= queryLimits[limit]) continue;
    const where = field === undefined ? "" : `: ${field}`;
    const sentence = `The operation may have at most ${queryLimits[limit]} ${what}, but has ${found}${where}.`;
    return tooComplex(sentence, limit, { found, ...(field !== undefined && { field }) });
  }
  return undefined;
}

/** Measures selections. Each fragment is measured once, however often it is spread. */
function measureOf(document: DocumentNode): (selectionSet: SelectionSetNode) => Extent {
  const fragments = new Map(
    document.definitions.flatMap((node) =>
      node.kind === Kind.FRAGMENT_DEFINITION ? [[node.name.value, node.selectionSet] as const] : [],
    ),
  );
  const extentOfFragment = new Map<string, Extent>();

  function measure({ selections }: SelectionSetNode): Extent {
    const extent = emptyExtent();
    for (const selection of selections) add(extent, measureSelection(selection));
    for (const [name, times] of extent.names) {
      if (times > extent.mostRepeated.times) extent.mostRepeated = { name, times };
    }
    return extent;
  }
  function measureSelection(selection: SelectionNode): Extent {
    if (selection.kind === Kind.FRAGMENT_SPREAD) return measureFragment(selection.name.value);
    if (selection.kind === Kind.INLINE_FRAGMENT) return measure(selection.selectionSet);
    const { alias, name, selectionSet } = selection;
    const inside = selectionSet ? measure(selectionSet) : emptyExtent();
    const asksForSchema = name.value === "__schema" || name.value === "__type";
    return {
      ...inside,
      depth: asksForSchema ? 1 : inside.depth + 1,
      deepest: { name: name.value, inside: asksForSchema ? undefined : inside.deepest },
      aliases: inside.aliases + (alias ? 1 : 0),
      longestAlias: longest(alias?.value ?? "", inside.longestAlias),
      schemas: inside.schemas + (name.value === "__schema" ? 1 : 0),
      schemaAliases: asksForSchema ? inside.aliases : inside.schemaAliases,
      fields: inside.fields + 1,
      names: new Map([[(alias ?? name).value, 1]]),
    };
  }
  function measureFragment(name: string): Extent {
    const known = extentOfFragment.get(name);
    if (known) return known;
    extentOfFragment.set(name, emptyExtent()); // breaks a cycle, which the validation reports
    const selectionSet = fragments.get(name);
    const extent = selectionSet ? measure(selectionSet) : emptyExtent();
    extentOfFragment.set(name, extent);
    return extent;
  }
  return measure;
}

function emptyExtent(): Extent {
  return {
    depth: 0,
    deepest: undefined,
    aliases: 0,
    longestAlias: "",
    schemas: 0,
    schemaAliases: 0,
    fields: 0,
    names: new Map(),
    mostRepeated: { name: "", times: 0 },
  };
}

function add(extent: Extent, more: Extent): void {
  if (more.depth > extent.depth) {
    extent.depth = more.depth;
    extent.deepest = more.deepest;
  }
  extent.aliases += more.aliases;
  extent.longestAlias = longest(extent.longestAlias, more.longestAlias);
  extent.schemas += more.schemas;
  extent.schemaAliases += more.schemaAliases;
  extent.fields += more.fields;
  for (const [name, times] of more.names) extent.names.set(name, (extent.names.get(name) ?? 0) + times);
  if (more.mostRepeated.times > extent.mostRepeated.times) extent.mostRepeated = more.mostRepeated;
}

function longest(a: string, b: string): string {
  return b.length > a.length ? b : a;
}

/** The path down, as far as it is useful. */
function pathOf(step: Step | undefined): string {
  const names: string[] = [];
  for (let at = step; at && names.length <= queryLimits.maxDepth; at = at.inside) names.push(at.name);
  return names.join(".");
}
