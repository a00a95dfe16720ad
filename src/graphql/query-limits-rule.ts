import {
  GraphQLError,
  Kind,
  type ASTVisitor,
  type OperationDefinitionNode,
  type SelectionSetNode,
  type ValidationContext,
} from "graphql";
import { ServiceError } from "../errors.ts";

/** How much one operation may ask for, with its fragments written out wherever they are spread. */
export const queryLimits = {
  /** Fields inside fields; what asks for the schema (`__schema`, `__type`) does not count. */
  maxDepth: 12,
  maxAliases: 50,
  /** Fields of the operation itself. */
  maxRootFields: 20,
  maxFields: 1000,
  /** Words and signs of the document, which bounds the work before anything else is known. */
  maxTokens: 2000,
};

/** The limits that an operation can exceed. */
export type QueryLimits = typeof queryLimits;

interface Extent {
  readonly depth: number;
  readonly aliases: number;
  readonly rootFields: number;
  readonly fields: number;
}

const nothing: Extent = { depth: 0, aliases: 0, rootFields: 0, fields: 0 };

/** A validation rule: no operation asks for more than the limits allow. `maxTokens` is the parser's. */
export function queryLimitsRule(limits: QueryLimits): (context: ValidationContext) => ASTVisitor {
  return (context) => ({
    OperationDefinition(operation) {
      const { depth, aliases, rootFields, fields } = extentOf(context, operation);
      const checks = [
        ["maxDepth", "levels of fields", depth],
        ["maxAliases", "aliases", aliases],
        ["maxRootFields", "fields of the operation itself", rootFields],
        ["maxFields", "fields in all", fields],
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

function sum(a: Extent, b: Extent): Extent {
  return {
    depth: Math.max(a.depth, b.depth),
    aliases: a.aliases + b.aliases,
    rootFields: a.rootFields + b.rootFields,
    fields: a.fields + b.fields,
  };
}
