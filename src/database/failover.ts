import { setTimeout as delay } from "node:timers/promises";
import { isDatabaseBusy, isDatabaseUnavailable, isStorageFull } from "../errors/database-failures.ts";
import { isNothingSent } from "./transaction.ts";

const firstWaitMs = 100;
const lastWaitMs = 2000;

/** How long a statement is repeated. */
export interface Patience {
  /** Seconds after which no further attempt begins. Less than the lease of an upload. */
  readonly seconds: number;
  /** Ends the waiting. */
  readonly signal: AbortSignal | undefined;
}

/** For what is not repeated. */
export const noPatience: Patience = { seconds: 0, signal: undefined };

/**
 * Runs a statement, and repeats it while the database is unavailable.
 * @param run must be safe to repeat, also while an attempt whose connection was lost still runs in the server
 * @throws the failure of the last attempt that was sent, if the database stays away
 */
export async function throughFailover<T>(run: () => Promise<T>, { seconds, signal }: Patience): Promise<T> {
  const giveUpAt = performance.now() + seconds * 1000;
  let sent: unknown;
  for (let waitMs = firstWaitMs; ; waitMs = Math.min(waitMs * 2, lastWaitMs)) {
    try {
      return await run();
    } catch (error) {
      if (!isAway(error)) throw error;
      if (!isNothingSent(error)) sent = error;
      if (signal?.aborted || performance.now() + waitMs > giveUpAt) throw sent ?? error;
    }
    // Replicas and uploads that have lost the database together do not come back together.
    await delay(waitMs * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => signal?.throwIfAborted());
  }
}

/** A full disk is not waited for: the client is told. */
function isAway(error: unknown): boolean {
  return (isDatabaseUnavailable(error) || isDatabaseBusy(error)) && !isStorageFull(error);
}
