import { ServiceError } from "../errors/errors.ts";

/**
 * The error for a recording that does not exist. A recording of another user gets the same error.
 * @param which the id that was asked for, if there were several
 */
export function noSuchRecord(which: { readonly id?: string } = {}): ServiceError {
  return new ServiceError("NOT_FOUND", "Recording not found.", which);
}

/** The recording of an upload, or a part of it, is no longer there before the upload has ended. */
export class RemovedMeanwhile extends ServiceError {
  constructor() {
    super("CONFLICT", "The recording was deleted while it was being uploaded.");
  }
}
