import type { ApolloServerPlugin } from "@apollo/server";
import { unwrapResolverError } from "@apollo/server/errors";
import { GraphQLError, type FormattedExecutionResult, type GraphQLFormattedError } from "graphql";
import { graphqlAnswerType } from "../accept-header.ts";
import { headersOf, operationErrorCodes, ServiceError } from "../errors.ts";
import { logFailure, toFormattedError, toServiceError } from "../failures.ts";
import type { RequestContext } from "../request-context.ts";
import { queryLimits, tooComplex } from "./query-limits-rule.ts";

/** Codes that Apollo Server gives to what a client got wrong before any resolver ran. */
const requestErrorCodes = new Set<unknown>(["BAD_REQUEST", "BAD_USER_INPUT", ...Object.keys(operationErrorCodes)]);

/**
 * Translates what resolvers throw, gives the answer the matching HTTP status and the form that the client asked for,
 * and logs faults.
 */
export const answerErrorsPlugin: ApolloServerPlugin<RequestContext> = {
  requestDidStart: async () => ({
    willSendResponse: async ({ errors, request, response, contextValue: { logger, requestId } }) => {
      const contentType = graphqlAnswerType(request.http?.headers.get("accept"));
      if (contentType !== undefined) response.http.headers.set("content-type", contentType);
      if (!errors || response.body.kind !== "single") return;
      const result: FormattedExecutionResult = response.body.singleResult;
      const answers = errors.map((error) => answerOf(error, requestId));
      for (const { failure } of answers) if (failure) logFailure(logger(), failure);
      result.errors = answers.map(({ formatted }) => formatted);
      const failure = answers.find((answer) => answer.failure)?.failure;
      // With some data the answer is a success with remarks: GraphQL over HTTP wants a 2xx for it.
      if (failure && result.data == null) {
        response.http.status = failure.status;
        for (const [name, value] of Object.entries(headersOf(failure))) response.http.headers.set(name, value);
      }
    },
  }),
};

function answerOf(
  error: GraphQLError,
  requestId: string,
): { formatted: GraphQLFormattedError; failure?: ServiceError } {
  const cause = error.originalError instanceof ServiceError ? error.originalError : unwrapResolverError(error);
  const code = error.extensions.code ?? "GRAPHQL_VALIDATION_FAILED";
  if (code === "GRAPHQL_PARSE_FAILED" && /more that \d+ tokens/.test(error.message)) {
    const { maxTokens } = queryLimits;
    const failure = tooComplex(`The document may have at most ${maxTokens} tokens.`, { maxTokens });
    return { failure, formatted: toFormattedError(failure, requestId) };
  }
  if (cause === error && requestErrorCodes.has(code)) {
    return {
      formatted: { ...error.toJSON(), extensions: { code, requestId } },
    };
  }
  const failure = toServiceError(cause);
  const { path, locations } = error.toJSON();
  return {
    failure,
    formatted: { ...toFormattedError(failure, requestId), ...(locations && { locations }), ...(path && { path }) },
  };
}
