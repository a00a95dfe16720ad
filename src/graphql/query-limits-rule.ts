import {
  GraphQLError,
  Kind,
  type ASTVisitor,
  type FieldNode,
  type OperationDefinitionNode,
  type SelectionSetNode,
  type ValidationContext,
} from "graphql";
import { ServiceError } from "../errors.ts";
import { defaultPageSize, maxPageSize } from "../record/list-records.ts";

/** How much one operation may ask for, with its fragments written out wherever they are spread. */
export const queryLimits = {
  /** Fields inside fields; what asks for the schema (`__schema`, `__type`) does not count. */
  maxDepth: 12,
  maxAliases: 50,
  /** Fields of the operation itself. */
  maxRootFields: 20,
  maxFields: 1000,
  /** Values that the answer can have: each field as often as the lists around it are long, each peak of a waveform. */
  maxValues: 250_000,
  /** Words and signs of the document, which bounds the work before anything else is known. */
  maxTokens: 2000,
};

/** The limits that an operation can exceed. */
export type QueryLimits = typeof queryLimits;

/** The fields that give many values: how many when the arguments do not say, and at most. */
const lists: Readonly<Record<string, { counts: readonly string[]; usual: number; most: number }>> = {
  records: { counts: ["first", "last"], usual: defaultPageSize, most: maxPageSize },
  peaks: { counts: ["count"], usual: 512, most: 2048 },
  links: { counts: [], usual: 100, most: 100 },
  tokens: { counts: [], usual: 100, most: 100 },
};

interface Extent {
  readonly depth: number;
  readonly aliases: number;
  readonly rootFields: number;
  readonly fields: number;
  readonly values: number;
}

const nothing: Extent = { depth: 0, aliases: 0, rootFields: 0, fields: 0, values: 0 };

/** A validation rule: no operation asks for more than the limits allow. `maxTokens` is the parser's. */
export function queryLimitsRule(limits: QueryLimits): (context: ValidationContext) => ASTVisitor {
  return (context) => ({
    OperationDefinition(operation) {
      const { depth, aliases, rootFields, fields, values } = extentOf(context, operation);
      const checks = [
        ["maxDepth", "levels of fields", depth],
        ["maxAliases", "aliases", aliases],
        ["maxRootFields", "fields of the operation itself", rootFields],
        ["maxFields", "fields in all", fields],
        ["maxValues", "values in its answer, lists counted at full length", values],
      ] as const;
      for (const [limit, what, found] of checks) {
        if (found <= limits[limit]) continue;
        const originalError = tooComplex(`The operation may have at most ${limits[limit]} ${what}.`, {
          [limit]: limits[limit],
        });
        context.reportError(new GraphQLError(originalError.message, { nodes: operation, originalError }));
      }
      return false;
    },
  });
}

/** The refusal of an operation that asks for too much; `details` names the limit. */
export function tooComplex(sentence: string, details: Partial<QueryLimits>): ServiceError {
  return new ServiceError("QUERY_TOO_COMPLEX", sentence, details);
}

/** Each fragment is measured once, however often it is spread. */
function extentOf(context: ValidationContext, operation: OperationDefinitionNode): Extent {
  const extentOfFragment = new Map<string, Extent>();
  function measure({ selections }: SelectionSetNode): Extent {
    return selections.map(measureSelection).reduce(sum, nothing);
  }
  function measureSelection(selection: SelectionSetNode["selections"][number]): Extent {
    if (selection.kind === Kind.FRAGMENT_SPREAD) return measureFragment(selection.name.value);
    if (selection.kind === Kind.INLINE_FRAGMENT) return measure(selection.selectionSet);
    const inner = selection.selectionSet ? measure(selection.selectionSet) : nothing;
    const asksForSchema = selection.name.value === "__schema" || selection.name.value === "__type";
    return {
      depth: asksForSchema ? 1 : inner.depth + 1,
      aliases: inner.aliases + (selection.alias ? 1 : 0),
      rootFields: 1,
      fields: inner.fields + 1,
      values: listLength(selection) * Math.max(inner.values, 1) + (selection.selectionSet ? 1 : 0),
    };
  }
  function measureFragment(name: string): Extent {
    const known = extentOfFragment.get(name);
    if (known) return known;
    extentOfFragment.set(name, nothing); // ends a cycle, which is another rule's to report
    const fragment = context.getFragment(name);
    const extent = fragment ? measure(fragment.selectionSet) : nothing;
    extentOfFragment.set(name, extent);
    return extent;
  }
  return measure(operation.selectionSet);
}

/** How many values a field can give; 1 if it is no list. A variable can ask for as many as there may be. */
function listLength({ name, arguments: given = [] }: FieldNode): number {
  const list = Object.hasOwn(lists, name.value) ? lists[name.value] : undefined;
  if (!list) return 1;
  const counts = given
    .filter((argument) => list.counts.includes(argument.name.value) && argument.value.kind !== Kind.NULL)
    .map(({ value }) => (value.kind === Kind.INT ? Math.min(Math.max(Number(value.value), 0), list.most) : list.most));
  return counts.length > 0 ? Math.max(...counts) : list.usual;
}

function sum(a: Extent, b: Extent): Extent {
  return {
    depth: Math.max(a.depth, b.depth),
    aliases: a.aliases + b.aliases,
    rootFields: a.rootFields + b.rootFields,
    fields: a.fields + b.fields,
    values: a.values + b.values,
  };
}
