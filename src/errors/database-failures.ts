/** SQLSTATE classes and codes of a server that is away, stopping, starting, busy or too slow: a later try may work. */
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

/** Whether a statement found all connections taken for too long: the database works, on too much. */
export function isDatabaseBusy(error: unknown): boolean {
  return error instanceof Error && error.message === "timeout exceeded when trying to connect";
}

/** Whether a statement found no room on the server's disk: SQLSTATE 53100, or the system's own words for it. */
export function isStorageFull(error: unknown): boolean {
  for (let cause = error, depth = 0; cause instanceof Error && depth < 5; cause = cause.cause, depth++) {
    if ("code" in cause && (cause.code === "53100" || cause.code === "ENOSPC")) return true;
  }
  return false;
}

/** Whether this failure means that the database cannot be used now, rather than that a statement is wrong. */
export function isDatabaseUnavailable(error: unknown): boolean {
  for (let cause = error, depth = 0; cause instanceof Error && depth < 5; cause = cause.cause, depth++) {
    const code = "code" in cause && cause.code;
    if (typeof code === "string" && (unavailableStates.test(code) || unavailableErrors.has(code))) return true;
    if (/^(Connection terminated|timeout expired|Query read timeout)/.test(cause.message)) {
      return true;
    }
  }
  return false;
}
