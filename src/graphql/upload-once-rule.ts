import {
  GraphQLError,
  Kind,
  visit,
  type ASTNode,
  type ASTVisitor,
  type OperationDefinitionNode,
  type TypeNode,
  type ValidationContext,
} from "graphql";

/**
 * A validation rule: within an operation and its fragments, each variable of type `Upload` is used only once and has no
 * default. A file arrives as one stream, so a second use would find it already read.
 */
export function uploadOnceRule(context: ValidationContext): ASTVisitor {
  return {
    OperationDefinition(operation) {
      const uploads = (operation.variableDefinitions ?? []).filter(({ type }) => namedTypeOf(type) === "Upload");
      if (uploads.length === 0) return false;
      const uses = countUses(context, operation);
      for (const { variable, defaultValue } of uploads) {
        const name = variable.name.value;
        if (defaultValue) {
          context.reportError(
            new GraphQLError(`The upload variable "$${name}" cannot have a default.`, { nodes: defaultValue }),
          );
        }
        if ((uses.get(name) ?? 0) > 1) {
          context.reportError(
            new GraphQLError(`The upload variable "$${name}" can be used only once, by one field.`, {
              nodes: variable,
            }),
          );
        }
      }
      return false;
    },
  };
}

/** The name of a type, without list and non-null wrappers. */
export function namedTypeOf(type: TypeNode): string {
  return type.kind === Kind.NAMED_TYPE ? type.name.value : namedTypeOf(type.type);
}

/** Counts the uses of each variable. A fragment counts each time that it is spread, but is walked only once. */
function countUses(context: ValidationContext, operation: OperationDefinitionNode): ReadonlyMap<string, number> {
  const usesOfFragment = new Map<string, ReadonlyMap<string, number>>();
  function count(node: ASTNode): ReadonlyMap<string, number> {
    const uses = new Map<string, number>();
    function add(name: string, times: number): void {
      uses.set(name, (uses.get(name) ?? 0) + times);
    }
    visit(node, {
      VariableDefinition: () => false,
      Variable: ({ name }) => add(name.value, 1),
      FragmentSpread: ({ name }) => {
        for (const [variable, times] of countFragment(name.value)) add(variable, times);
      },
    });
    return uses;
  }
  function countFragment(name: string): ReadonlyMap<string, number> {
    const known = usesOfFragment.get(name);
    if (known) return known;
    usesOfFragment.set(name, new Map()); // breaks a cycle, which another rule reports
    const fragment = context.getFragment(name);
    const uses = fragment ? count(fragment) : new Map<string, number>();
    usesOfFragment.set(name, uses);
    return uses;
  }
  return count(operation);
}
