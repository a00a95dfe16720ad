import { computed, signal } from "@preact/signals";
import type { RowFragment } from "../api/operations.ts";
import { ApiError } from "../api/client.ts";
import type { Send } from "../api/send-onwards.ts";
import type { FileFacts } from "./wav-facts.ts";

/**
 * Where a file of the queue is. `waiting` for its turn or, with a `code`, for the next attempt; `sending`; `finishing`:
 * all bytes have left; `stored`; `refused`: it cannot be sent; `failed`: it can be tried again; `paused` by the person.
 */
export type Place = "waiting" | "sending" | "finishing" | "stored" | "refused" | "failed" | "paused";

/** A file of the queue. */
export interface QueuedFile {
  /** The idempotency key: a retry finds what an earlier attempt has stored. */
  readonly key: string;
  readonly name: string;
  readonly sizeBytes: number;
  readonly file: Blob;
  readonly facts: FileFacts | undefined;
  readonly place: Place;
  readonly sentBytes: number;
  /** When this attempt began to send, by `performance.now()`, and the bytes that the service had by then. */
  readonly since: number;
  readonly hadBytes: number;
  /** Why it failed or waits: a code of the API. */
  readonly code?: string;
  /** The service's own sentence about it. */
  readonly message?: string;
  readonly stored?: { readonly record: RowFragment; readonly created: boolean };
  /** The name of the take whose sound it is. */
  readonly take?: string;
  /** Whether it must be chosen again after a reload. */
  readonly isUnkept?: boolean;
}

/** What the queue needs from the rest of the page. */
export interface QueueParts {
  readonly send: Send;
  readonly token: () => Promise<string>;
  /** Resolves with whether a reload will find the file again. */
  readonly keep: (file: { key: string; name: string; file: Blob }) => Promise<boolean>;
  /** Called once the record is known: only now may the file and the take be forgotten. */
  readonly onStored: (file: QueuedFile, record: RowFragment, created: boolean) => void;
  /** `token` is the one that was sent, if one was. */
  readonly onFailed: (file: QueuedFile, error: unknown, token: string | undefined) => void;
  /** Resolves after a time, or earlier when the network is back. */
  readonly pause: (ms: number) => Promise<void>;
}

/** HTTP/1.1 has six connections for each host: the others are for the page. */
const atOnce = 3;

/** Codes after which the same file can succeed without anybody doing anything. */
const passing = new Set([
  "BUSY",
  "LOCKED",
  "NETWORK",
  "RATE_LIMITED",
  "SHUTTING_DOWN",
  "DATABASE_UNAVAILABLE",
  "OUTCOME_UNKNOWN",
  "UPLOAD_STALLED",
]);

/** Codes that are about the file itself: it is refused again, however often it is sent. */
const final = new Set(["UNSUPPORTED_MEDIA", "UPLOAD_INCOMPLETE", "UPLOAD_TOO_LARGE", "UPLOAD_TOO_LONG"]);

const firstPauseMs = 1000;
const longestPauseMs = 60_000;

/** How long the rest of a file will take, in seconds, at the speed of this attempt; undefined while that is unknown. */
export function secondsLeft({ sentBytes, hadBytes, sizeBytes, since }: QueuedFile): number | undefined {
  const elapsedSeconds = (performance.now() - since) / 1000;
  if (elapsedSeconds <= 2 || sentBytes === hadBytes) return undefined;
  return (elapsedSeconds / (sentBytes - hadBytes)) * (sizeBytes - sentBytes);
}

/** The files that are sent, in order. Three are sent at once; what fails for a passing reason goes on by itself. */
export class Queue {
  readonly files = signal<readonly QueuedFile[]>([]);
  /** Whether a file is on its way, so that closing the page would interrupt it. */
  readonly isBusy = computed(() =>
    this.files.value.some(({ place }) => place === "sending" || place === "finishing" || place === "waiting"),
  );
  readonly #parts: QueueParts;
  readonly #aborts = new Map<string, AbortController>();
  readonly #attempts = new Map<string, number>();

  constructor(parts: QueueParts) {
    this.#parts = parts;
  }

  /** Adds a file that can be sent, or one that is no WAV or has a `refusal`, which only tells why. */
  add(
    file: Blob,
    {
      name,
      key,
      facts,
      take,
      refusal,
    }: { name: string; key: string; facts?: FileFacts; take?: string; refusal?: string },
  ): void {
    if (this.#find(key)) return;
    const isRefused = facts?.isWav === false || refusal !== undefined;
    const place = isRefused ? "refused" : "waiting";
    const sent = { sentBytes: 0, since: 0, hadBytes: 0 };
    const queued = { key, name, sizeBytes: file.size, file, facts, place, ...sent } as const;
    this.files.value = [
      ...this.files.value,
      { ...queued, ...(take !== undefined && { take }), ...(refusal && { message: refusal }) },
    ];
    if (isRefused) return;
    if (take === undefined) {
      void this.#parts.keep({ key, name, file }).then((isKept) => isKept || this.#change(key, { isUnkept: true }));
    }
    this.#next();
  }

  /** Stops sending a file, so that it can go on later. */
  pause(key: string): void {
    this.#change(key, { place: "paused", sentBytes: 0 });
    this.#aborts.get(key)?.abort(new Error("paused"));
    this.#next();
  }

  /** Sends a file again, now. */
  retry(key: string): void {
    const file = this.#find(key);
    if (file?.place !== "failed" && file?.place !== "paused" && file?.place !== "waiting") return;
    this.#attempts.delete(key);
    this.#wait(key);
    this.#next();
  }

  /** Sends all files again that have failed. */
  retryAll(): void {
    for (const { key, place } of this.files.value) if (place === "failed" || place === "paused") this.#wait(key);
    this.#next();
  }

  /** Sends the files again that have failed with this code. */
  retryAfter(code: string): void {
    for (const file of this.files.value) if (file.place === "failed" && file.code === code) this.#wait(file.key);
    this.#next();
  }

  /** Takes a file out of the list. */
  remove(key: string): void {
    this.#aborts.get(key)?.abort(new Error("removed"));
    this.files.value = this.files.value.filter((file) => file.key !== key);
    this.#next();
  }

  #wait(key: string): void {
    const { code: _, message: __, ...file } = this.#find(key)!;
    this.#replace({ ...file, place: "waiting", sentBytes: 0 });
  }

  #next(): void {
    while (this.#aborts.size < atOnce) {
      const next = this.files.value.find(
        ({ key, place, code }) => place === "waiting" && code === undefined && !this.#aborts.has(key),
      );
      if (!next) return;
      void this.#sendOne(next);
    }
  }

  async #sendOne({ key, file, name }: QueuedFile): Promise<void> {
    const abort = new AbortController();
    this.#aborts.set(key, abort);
    let pauseMs: number | undefined;
    let token: string | undefined;
    try {
      const begin = (hadBytes: number): void =>
        this.#change(key, { place: "sending", sentBytes: hadBytes, hadBytes, since: performance.now() });
      begin(0);
      token = await this.#parts.token();
      abort.signal.throwIfAborted();
      let hasBegun = false;
      const onSent = (sentBytes: number): void => {
        if (!hasBegun) begin(sentBytes);
        hasBegun = true;
        this.#change(key, { sentBytes, place: sentBytes >= file.size ? "finishing" : "sending" });
      };
      const stored = await this.#parts.send({ file, name, key, token }, onSent, abort.signal);
      this.#change(key, { place: "stored", sentBytes: file.size, stored });
      this.#attempts.delete(key);
      const now = this.#find(key);
      if (now) this.#parts.onStored(now, stored.record, stored.created);
    } catch (error) {
      if (!abort.signal.aborted) pauseMs = this.#failed(key, error, token);
    } finally {
      this.#aborts.delete(key);
      this.#next();
    }
    if (pauseMs === undefined) return;
    await this.#parts.pause(pauseMs);
    const later = this.#find(key);
    if (later?.place !== "waiting" || later.code === undefined) return;
    this.#wait(key);
    this.#next();
  }

  /** Notes a failure. Returns after how long to try again, if it passes by itself. */
  #failed(key: string, error: unknown, token: string | undefined): number | undefined {
    const { code, message, retryAfterSeconds } =
      error instanceof ApiError ? error : new ApiError("UNREADABLE", "The file cannot be read.");
    const isPassing = passing.has(code);
    this.#change(key, {
      place: isPassing ? "waiting" : final.has(code) ? "refused" : "failed",
      code,
      message,
      sentBytes: 0,
    });
    const now = this.#find(key);
    if (now) this.#parts.onFailed(now, error, token);
    if (!isPassing) return undefined;
    const attempt = this.#attempts.get(key) ?? 0;
    this.#attempts.set(key, attempt + 1);
    return retryAfterSeconds === undefined
      ? Math.min(firstPauseMs * 2 ** attempt, longestPauseMs)
      : retryAfterSeconds * 1000;
  }

  #find(key: string): QueuedFile | undefined {
    return this.files.value.find((file) => file.key === key);
  }

  #change(key: string, change: Partial<QueuedFile>): void {
    const file = this.#find(key);
    if (file) this.#replace({ ...file, ...change });
  }

  #replace(next: QueuedFile): void {
    this.files.value = this.files.value.map((file) => (file.key === next.key ? next : file));
  }
}
