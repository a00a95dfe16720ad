import { getOperationAST, Kind, parse, valueFromASTUntyped, type FieldNode } from "graphql";
import type { GraphQLRequestBody } from "./multipart-request.ts";
import { queryLimits } from "./query-limits-rule.ts";

/** The user id and token in the arguments of `uploadRecord`, or that it is called without. */
export type UploadCredentials = { readonly userId: string; readonly token: string } | "from the header";

/**
 * Who an operation uploads for, known before it is executed; undefined when it does not call `uploadRecord` directly
 * or when its arguments have to be refused for another reason: that is found when it is executed.
 */
export function uploadCredentials(operation: GraphQLRequestBody): UploadCredentials | undefined {
  const field = uploadField(operation);
  if (!field) return undefined;
  const variables = operation.variables ?? {};
  const [userId, token] = ["userId", "token"].map((name) => {
    const value = field.arguments?.find((argument) => argument.name.value === name)?.value;
    return value && valueFromASTUntyped(value, variables);
  });
  if (userId == null && token == null) return "from the header";
  if ((typeof userId === "string" || typeof userId === "number") && typeof token === "string") {
    return { userId: String(userId), token };
  }
  return undefined;
}

function uploadField({ query, operationName }: GraphQLRequestBody): FieldNode | undefined {
  let document;
  try {
    document = parse(query ?? "", { noLocation: true, maxTokens: queryLimits.maxTokens });
  } catch {
    return undefined;
  }
  return getOperationAST(document, operationName)?.selectionSet.selections.find(
    (selection): selection is FieldNode => selection.kind === Kind.FIELD && selection.name.value === "uploadRecord",
  );
}
