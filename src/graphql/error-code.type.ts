import { GraphQLEnumType } from "graphql";
import { errorCodes, operationErrorCodes } from "../errors/errors.ts";

/** Every error code of the API with status, meaning and advice; the service's own codes come first. */
export const documentedErrorCodes = Object.entries({ ...errorCodes, ...operationErrorCodes }).map(
  ([code, [status, meaning, advice]]) => ({ code, status, meaning, advice }),
);

/** The codes as a type of the schema, for client generators. */
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
