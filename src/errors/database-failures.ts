/**
 * SQLSTATE classes and codes of a server that is unreachable, stopping, starting, busy, too slow, or has given up a
 * transaction (25P03). A later attempt may succeed.
 */
const unavailableStates = /^(08|57P0|57014|53|25006|25P03)/;
const unavailableErrors = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "ENOTFOUND",
  "ENOENT",
  "EPIPE",
  "ETIMEDOUT",
  "EAI_AGAIN",
]);

/** The class of a failure, of which there are few: two characters of an SQLSTATE, the system's code, or `lost`. */
export function failureClass(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "lost";
  return /^[\dA-Z]{5}$/.test(code) ? code.slice(0, 2) : code;
}

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

/** Whether a statement failed because the database is read-only (SQLSTATE 25006), as after a failover to a standby. */
export function isReadOnly(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "25006";
}

/** Whether a standby ended a statement, because its primary has deleted what the statement might read (SQLSTATE 40001). */
export function isRecoveryConflict(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "40001";
}

/** Whether the server ended a statement that took too long (SQLSTATE 57014). Its connection still works. */
export function isStatementEnded(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "57014";
}

/**
 * Whether the server keeps a statement from before a migration that has changed the types of its result (SQLSTATE 0A000, in the
 * function that checks a kept plan). Nothing of it was executed.
 */
export function isPlanOutdated(error: unknown): boolean {
  return (
    error instanceof Error &&
    "code" in error &&
    error.code === "0A000" &&
    "routine" in error &&
    error.routine === "RevalidateCachedQuery"
  );
}

/**
 * Whether a transaction was given up because another one holds a lock: after `lock_timeout` (SQLSTATE 55P03), or in a
 * deadlock (40P01). It can be repeated.
 */
export function isLockUnavailable(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "55P03" || error.code === "40P01");
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
