import type { ApolloServerPlugin } from "@apollo/server";
import { unwrapResolverError } from "@apollo/server/errors";
import { GraphQLError, type FormattedExecutionResult, type GraphQLFormattedError } from "graphql";
import { headersOf, operationErrorCodes, ServiceError } from "../errors.ts";
import { logFailure, toFormattedError, toServiceError } from "../failures.ts";
import type { RequestContext } from "../request-context.ts";
import { queryLimits, tooComplex } from "./query-limits-rule.ts";

/** Codes that Apollo Server gives to what a client got wrong before any resolver ran. */
const requestErrorCodes = new Set<unknown>(["BAD_REQUEST", "BAD_USER_INPUT", ...Object.keys(operationErrorCodes)]);

/** Translates what resolvers throw, gives the answer the matching HTTP status, and logs faults. */
export const answerErrorsPlugin: ApolloServerPlugin<RequestContext> = {
  requestDidStart: async () => ({
    willSendResponse: async ({ errors, response, contextValue: { logger, requestId } }) => {
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
    return { failure, formatted: toFormattedError(failure) };
  }
  if (cause === error && requestErrorCodes.has(code)) {
    return {
      formatted: { ...error.toJSON(), extensions: { code } },
    };
  }
  const failure = toServiceError(cause, requestId);
  const { path, locations } = error.toJSON();
  return {
    failure,
    formatted: { ...toFormattedError(failure), ...(locations && { locations }), ...(path && { path }) },
  };
}
