import type { Readable, Writable } from "node:stream";

/** Limits of one process, enforced if the system has `prlimit` or supports the confinement. */
export interface ChildLimits {
  readonly addressSpaceBytes: number;
  /** CPU time. The caller's signal limits the wall-clock time. */
  readonly cpuSeconds: number;
}

/** How a process ended: with an exit code or by a signal; else the error says why that is not known. */
export interface ProcessEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly error?: string;
}

/** A process that was started, by this one or by a fork server. */
export interface StartedProcess {
  /** Undefined if it did not start, and until the fork server has told it. */
  readonly pid: number | undefined;
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly isKilled: boolean;
  /** Resolves when it has ended and its output was read or abandoned. It never rejects. */
  readonly ended: Promise<ProcessEnd>;
  /** Sends SIGKILL, if it still runs. */
  kill(): void;
  /** Moves it out of the background, if the system allows it. */
  hurry(): void;
}
