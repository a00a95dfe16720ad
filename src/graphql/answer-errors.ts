import type { ApolloServerPlugin } from "@apollo/server";
import { unwrapResolverError } from "@apollo/server/errors";
import { GraphQLError, type FormattedExecutionResult, type GraphQLFormattedError } from "graphql";
import { isDatabaseBusy, isDatabaseUnavailable } from "../database/database.ts";
import { headersOf, operationErrorCodes, ServiceError, tryAgainLater } from "../errors.ts";
import type { RequestContext } from "../request-context.ts";
import { queryLimits, tooComplex } from "./query-limits-rule.ts";

/** Codes that Apollo Server gives to what a client got wrong before any resolver ran. */
const requestErrorCodes = new Set<unknown>(["BAD_REQUEST", "BAD_USER_INPUT", ...Object.keys(operationErrorCodes)]);

/**
 * The failure as a client may see it: a {@link ServiceError} as it is, a lost database as DATABASE_UNAVAILABLE, and
 * anything else as INTERNAL_SERVER_ERROR, which says no more than the id under which it was logged. Every fault of the
 * service's own (status 500) has that id.
 */
export function toServiceError(error: unknown, requestId: string): ServiceError {
  if (error instanceof ServiceError) {
    const { code, status, message, details, cause = error } = error;
    return status === 500 ? new ServiceError(code, message, { ...details, requestId }, { cause }) : error;
  }
  if (isDatabaseBusy(error)) {
    return tryAgainLater("BUSY", "The service has too much to do", 10, { cause: error });
  }
  if (isDatabaseUnavailable(error)) {
    return tryAgainLater("DATABASE_UNAVAILABLE", "The database cannot be reached", 5, { cause: error });
  }
  return new ServiceError("INTERNAL_SERVER_ERROR", "Internal server error.", { requestId }, { cause: error });
}

/** Writes a refusal down by its code, and a fault with its cause. */
export function logFailure(logger: ReturnType<RequestContext["logger"]>, failure: ServiceError): void {
  const { code, status, cause } = failure;
  if (status < 500 || (cause === undefined && status === 503)) logger.info({ code }, "request refused");
  else logger.error({ err: cause ?? failure, code }, "request failed");
}

/** A failure in the form of a GraphQL error. */
export function toFormattedError(error: ServiceError): GraphQLFormattedError {
  return { message: error.message, extensions: { code: error.code, ...error.details } };
}

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
