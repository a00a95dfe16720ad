import {
  getOperationAST,
  Kind,
  parse,
  valueFromASTUntyped,
  type FieldNode,
  type OperationDefinitionNode,
} from "graphql";
import type { GraphQLRequestBody } from "./multipart-fields.ts";
import { queryLimits } from "./query-limits.ts";

/** The ticket, or user id and token, in the arguments of `uploadRecord`, or "from the header" if it has none. */
export type UploadCredentials =
  { readonly ticket: string } | { readonly userId: string; readonly token: string } | "from the header";

/**
 * Finds the credentials of an upload before the operation is executed. Undefined if the operation does not call
 * `uploadRecord` directly and without directives, or if its arguments are invalid, which is reported when it is
 * executed.
 */
export function uploadCredentials(operation: GraphQLRequestBody): UploadCredentials | undefined {
  const definition = parseOperation(operation);
  const field = definition?.selectionSet.selections.find(
    (selection): selection is FieldNode =>
      selection.kind === Kind.FIELD && selection.name.value === "uploadRecord" && !selection.directives?.length,
  );
  if (!definition || !field) return undefined;
  const variables = { ...defaultsOf(definition), ...operation.variables };
  const [ticket, userId, token] = ["ticket", "userId", "token"].map((name) => {
    const value = field.arguments?.find((argument) => argument.name.value === name)?.value;
    return value && valueFromASTUntyped(value, variables);
  });
  if (ticket != null) return typeof ticket === "string" ? { ticket } : undefined;
  if (userId == null && token == null) return "from the header";
  if ((typeof userId === "string" || typeof userId === "number") && typeof token === "string") {
    return { userId: String(userId), token };
  }
  return undefined;
}

function parseOperation({ query, operationName }: GraphQLRequestBody): OperationDefinitionNode | undefined {
  try {
    const document = parse(query ?? "", { noLocation: true, maxTokens: queryLimits.maxTokens });
    return getOperationAST(document, operationName) ?? undefined;
  } catch {
    return undefined;
  }
}

function defaultsOf({ variableDefinitions = [] }: OperationDefinitionNode): Record<string, unknown> {
  return Object.fromEntries(
    variableDefinitions.map(({ variable, defaultValue }) => [
      variable.name.value,
      defaultValue && valueFromASTUntyped(defaultValue),
    ]),
  );
}
