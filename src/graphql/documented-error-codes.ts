import { errorCodes, operationErrorCodes } from "../errors/errors.ts";

/** Every error code of the API with status, meaning and advice; the service's own codes come first. */
export const documentedErrorCodes = Object.entries({ ...errorCodes, ...operationErrorCodes }).map(
  ([code, [status, meaning, advice]]) => ({ code, status, meaning, advice }),
);
