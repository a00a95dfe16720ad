/**
 * SQLSTATE classes and codes of a server that is unreachable, stopping, starting, busy or too slow. A later attempt may
 * succeed.
 */
const unavailableStates = /^(08|57P0|57014|53|25006)/;
const unavailableErrors = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "ENOTFOUND",
  "ENOENT",
  "EPIPE",
  "ETIMEDOUT",
  "EAI_AGAIN",
]);

/** Whether a statement waited too long for a free connection: the database works, but is overloaded. */
export function isDatabaseBusy(error: unknown): boolean {
  return error instanceof Error && error.message === "timeout exceeded when trying to connect";
}

/** Whether the server's disk is full: SQLSTATE 53100, or the system's own error. */
export function isStorageFull(error: unknown): boolean {
  for (let cause = error, depth = 0; cause instanceof Error && depth < 5; cause = cause.cause, depth++) {
    if ("code" in cause && (cause.code === "53100" || cause.code === "ENOSPC")) return true;
  }
  return false;
}

/** Whether an error means that the database is unavailable now, rather than that a statement is wrong. */
export function isDatabaseUnavailable(error: unknown): boolean {
  for (let cause = error, depth = 0; cause instanceof Error && depth < 5; cause = cause.cause, depth++) {
    const code = "code" in cause && cause.code;
    if (typeof code === "string" && (unavailableStates.test(code) || unavailableErrors.has(code))) return true;
    if (
      /^(Connection terminated|timeout expired|Query read timeout|Client (has encountered a connection error|was closed))/.test(
        cause.message,
      )
    ) {
      return true;
    }
  }
  return false;
}

/** Whether the server ended a statement that took too long (SQLSTATE 57014). Its connection still works. */
export function isStatementEnded(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "57014";
}

/**
 * Whether a statement failed because the parent of its row was deleted: the recording of a chunk, or the owner of a
 * recording (SQLSTATE 23503).
 */
export function isParentMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "23503";
}

/** Whether a statement failed because a row with the same key exists (SQLSTATE 23505). */
export function isDuplicate(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "23505";
}
