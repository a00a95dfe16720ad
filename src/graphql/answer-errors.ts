import type { GraphQLRequestContextWillSendResponse } from "@apollo/server";
import { ApolloServerValidationErrorCode, unwrapResolverError } from "@apollo/server/errors";
import type { FormattedExecutionResult, GraphQLError, GraphQLFormattedError } from "graphql";
import { graphqlAnswerType } from "../http/accept-header.ts";
import { headersOf, operationErrorCodes, ServiceError } from "../errors/errors.ts";
import { logFailure, toFormattedError, toServiceError } from "../http/failures.ts";
import type { RequestContext } from "./request-context.ts";
import {
  argumentOf,
  argumentPlaces,
  boundedMessage,
  clientMistake,
  serviceErrorIn,
  type MistakenRequest,
} from "./client-mistakes.ts";
import { queryLimits, tooComplex } from "./query-limits.ts";

/** Codes of Apollo Server for mistakes of the client, found before any resolver ran. */
const requestErrorCodes = new Set<unknown>(["BAD_REQUEST", "BAD_USER_INPUT", ...Object.keys(operationErrorCodes)]);

/**
 * Translates errors of resolvers, sets the matching HTTP status and the response type that the client asked for, and
 * logs faults.
 * @param hidesSchema removes suggestions ("Did you mean ...") from messages, as Apollo does in its own
 */
export function answerErrors(
  {
    errors,
    document,
    request,
    response,
    schema,
    contextValue: { logger, requestId },
  }: GraphQLRequestContextWillSendResponse<RequestContext>,
  hidesSchema: boolean,
): void {
  const contentType = graphqlAnswerType(request.http?.headers.get("accept"));
  if (contentType !== undefined) response.http.headers.set("content-type", contentType);
  if (!errors || response.body.kind !== "single") return;
  const result: FormattedExecutionResult = response.body.singleResult;
  const places = document && argumentPlaces(document);
  const mistaken = { places, variables: request.variables ?? {}, schema, hidesSchema };
  const answers = errors.map((error) => answerOf(error, mistaken, requestId));
  for (const { failure } of answers) if (failure) logFailure(logger(), failure);
  result.errors = answers.map(({ formatted }) => formatted);
  const failure = answers.find((answer) => answer.failure)?.failure;
  // A refusal before the operation runs has the form of a failed field: both have a path.
  const failed = result.data ? everyFieldFailed(result.data, errors) : errors.some(({ path }) => path);
  if (failed) result.data = null;
  // A response with some data is a partial success, for which GraphQL over HTTP requires a 2xx status.
  if (failure && result.data == null) {
    response.http.status = failure.status;
    for (const [name, value] of Object.entries(headersOf(failure))) response.http.headers.set(name, value);
  }
}

/**
 * Whether every top-level field failed, so that nothing was done. An error inside a field's result has a longer path:
 * that top-level field has done its work.
 */
function everyFieldFailed(data: Record<string, unknown>, errors: readonly GraphQLError[]): boolean {
  const failed = new Set(errors.flatMap(({ path }) => (path?.length === 1 ? path : [])));
  return Object.keys(data).every((key) => data[key] === null && failed.has(key));
}

function answerOf(
  error: GraphQLError,
  request: MistakenRequest,
  requestId: string,
): { formatted: GraphQLFormattedError; failure?: ServiceError } {
  const { code } = error.extensions;
  const { path, locations } = error.toJSON();
  const argument = path ? {} : argumentOf(error, request);
  if (code === "GRAPHQL_PARSE_FAILED" && /contains more tha[nt] \d+ tokens/.test(error.message)) {
    const { maxTokens } = queryLimits;
    const failure = tooComplex(
      `The document may have at most ${maxTokens} tokens (names, values and punctuation).`,
      "maxTokens",
    );
    return { failure, formatted: toFormattedError(failure, requestId) };
  }
  if (error.extensions.validationErrorCode === ApolloServerValidationErrorCode.INTROSPECTION_DISABLED) {
    const message = "Introspection is off. The schema is at /schema.graphql.";
    return { formatted: { ...error.toJSON(), message, extensions: { code, requestId } } };
  }
  const refusal = serviceErrorIn(error) ?? clientMistake(error, request);
  if (!refusal && !path && requestErrorCodes.has(code)) {
    const extensions = { code, ...argument, requestId };
    return { formatted: { ...error.toJSON(), message: boundedMessage(error.message, request), extensions } };
  }
  const failure = refusal ?? toServiceError(unwrapResolverError(error));
  const { message, extensions } = toFormattedError(failure, requestId);
  return {
    failure,
    formatted: {
      message,
      extensions: { ...argument, ...extensions },
      ...(locations && { locations }),
      ...(path && { path }),
    },
  };
}
