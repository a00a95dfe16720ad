import {
  Kind,
  type DocumentNode,
  type FragmentDefinitionNode,
  type OperationDefinitionNode,
  type SelectionNode,
  type SelectionSetNode,
} from "graphql";
import { ServiceError } from "../errors/errors.ts";

/** How much one operation may ask for. What does not depend on variables counts fragments wherever they are spread. */
export const queryLimits = {
  /** Words and signs of the document, which bounds the work before anything else is known. */
  maxTokens: 2000,
  /** Fields inside fields; what asks for the schema (`__schema`, `__type`) does not count. */
  maxDepth: 12,
  maxAliases: 50,
  maxAliasCharacters: 100,
  /** Fields of the operation itself. */
  maxRootFields: 20,
  maxFields: 1000,
  /** How often one field stands at the same place: the validation compares each of them with each other. */
  maxRepetitions: 32,
  /** Values that the answer can have, with the variables that were sent: each field as often as the lists around it are long. */
  maxValues: 250_000,
  /** Characters that the answer can have, each text as long as it may be. */
  maxCharacters: 16_000_000,
};

/** The limits that an operation can exceed. */
export type QueryLimits = typeof queryLimits;

/**
 * The refusal of an operation that asks for too much; names the limit.
 * @param found how much it asks for
 * @param field the field that is to blame, as its path in the answer
 */
export function tooComplex(
  sentence: string,
  limit: keyof QueryLimits,
  details: { found?: number; field?: string } = {},
): ServiceError {
  return new ServiceError("QUERY_TOO_COMPLEX", sentence, { [limit]: queryLimits[limit], ...details });
}

/** A field and the way from it to the deepest field inside. */
interface Step {
  readonly name: string;
  readonly inside: Step | undefined;
}

interface Extent {
  depth: number;
  deepest: Step | undefined;
  aliases: number;
  longestAlias: string;
  fields: number;
  /** How often each name stands here; what fragments bring along stands here, too. */
  readonly names: Map<string, number>;
  /** Of all places inside, the name that stands most often at one. */
  mostRepeated: { readonly name: string; readonly times: number };
}

/**
 * Measures a document by its syntax alone, in a time that grows with its length only. It comes before the validation,
 * which takes a hundred times as long for a document that is made for it.
 * @returns the refusal, if any of its operations asks for more than the limits allow
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
  { depth, deepest, aliases, longestAlias, fields, names, mostRepeated }: Extent,
): ServiceError | undefined {
  const rootFields = [...names.values()].reduce((sum, times) => sum + times, 0);
  const ofOperation = [
    ["maxDepth", "levels of nested fields", depth, pathOf(deepest)],
    ["maxAliases", "aliases", aliases],
    ["maxRootFields", "top-level fields", rootFields],
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

/** Each fragment is measured once, however often it is spread. */
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
      fields: inside.fields + 1,
      names: new Map([[(alias ?? name).value, 1]]),
    };
  }
  function measureFragment(name: string): Extent {
    const known = extentOfFragment.get(name);
    if (known) return known;
    extentOfFragment.set(name, emptyExtent()); // ends a cycle, which the validation reports
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
  extent.fields += more.fields;
  for (const [name, times] of more.names) extent.names.set(name, (extent.names.get(name) ?? 0) + times);
  if (more.mostRepeated.times > extent.mostRepeated.times) extent.mostRepeated = more.mostRepeated;
}

function longest(a: string, b: string): string {
  return b.length > a.length ? b : a;
}

/** The way down, as far as it is of use. */
function pathOf(step: Step | undefined): string {
  const names: string[] = [];
  for (let at = step; at && names.length <= queryLimits.maxDepth; at = at.inside) names.push(at.name);
  return names.join(".");
}
