import { ServiceError } from "../errors/errors.ts";

/**
 * The error for a recording that does not exist. A recording of another user gets the same error.
 * @param which the id that was asked for, if there were several
 */
export function noSuchRecord(which: { readonly id?: string } = {}): ServiceError {
  return new ServiceError("NOT_FOUND", "Recording not found.", which);
}

/** The error for an upload whose recording or user was deleted before it ended. */
export function removedMeanwhile(): ServiceError {
  return new ServiceError("CONFLICT", "The recording was deleted while it was being uploaded.");
}
