import { GraphQLEnumType } from "graphql";
import { errorCodes, operationErrorCodes } from "../errors/errors.ts";

/** Every code that an error of the API can have, ours first, with status, meaning and advice. */
export const documentedErrorCodes = Object.entries({ ...errorCodes, ...operationErrorCodes }).map(
  ([code, [status, meaning, advice]]) => ({ code, status, meaning, advice }),
);

/** The codes as a type of the schema, so that clients can be generated with them. */
export const errorCodeEnum = new GraphQLEnumType({
  name: "ErrorCode",
  description:
    "Values of `extensions.code` of an error. New codes may be added: handle unknown ones by their HTTP status.",
  values: Object.fromEntries(
    documentedErrorCodes.map(({ code, status, meaning, advice }) => [
      code,
      { value: code, description: `${meaning} ${advice} HTTP status ${status}.` },
    ]),
  ),
});
