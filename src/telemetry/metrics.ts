import type { Buffer } from "node:buffer";

/** What the service reports while it works. Without METRICS_PORT, nothing listens, and the library is not loaded. */
export interface Metrics {
  /** A request was answered. Uploads are not among them: their time is that of their client. */
  requestAnswered(labels: { route: string; method: string; status: number }, seconds: number): void;
  /** A portion of a resumable upload was answered. */
  portionAnswered(status: number): void;
  /** An upload ended: `stored`, `again` if an earlier one had stored the recording, or an error code. */
  uploadEnded(outcome: string): void;
  /** An upload has waited this long for its slot. */
  uploadWaited(seconds: number): void;
  /** An upload was answered this long after the last byte of its file arrived. */
  uploadAnswered(secondsAfterLastByte: number): void;
  /** A recording was stored. */
  recordStored(record: { wavBytes: number; mp3Bytes: number; soundSeconds: number }): void;
  /** The first byte of a download was ready this long after its request. */
  downloadBegan(seconds: number): void;
  /** A download ended: `complete`, or `cut` by its client, by a failure or by a limit. */
  downloadEnded(outcome: "complete" | "cut", mp3Bytes: number): void;
  /** The recordings of dead uploads were deleted. */
  recordsSwept(count: number): void;
  /** A statement of MikroORM or its query builder ended. `failure` is a class of SQLSTATEs or the code of an error. */
  statementEnded(seconds: number, failure: string | undefined): void;
  /** A standby was asked for a row of an MP3: `read`, `missing`, or `failed`. Then the primary was asked. */
  standbyAsked(outcome: string): void;
  /** An operation of S3 ended, such as `PutObject`. `failure` is S3's code, or the name of the failure if there was no answer. */
  s3Answered(operation: string, seconds: number, failure: string | undefined): void;
}

/** What is asked when Prometheus asks, so that it costs nothing in between. */
export interface MetricSources {
  readonly uploads: () => { readonly underWay: number; readonly waiting: number };
  readonly encoders: () => { readonly places: number; readonly taken: number };
  readonly connections: () => { readonly idle: number; readonly busy: number; readonly waiting: number };
  /** Seconds since the leases of running uploads were last renewed. */
  readonly leaseAgeSeconds: () => number;
  /** Objects of deleted recordings that are not deleted yet. */
  readonly objectsWaiting: () => number;
  readonly isStopping: () => boolean;
}

/** Calls `onEnd` with the number of bytes that were passed on, however that ends. */
export async function* countingBytes(
  pieces: AsyncIterable<Buffer>,
  { onFirst, onEnd }: { onFirst: () => void; onEnd: (bytes: number) => void },
): AsyncGenerator<Buffer, void, undefined> {
  let bytes = 0;
  try {
    for await (const piece of pieces) {
      if (bytes === 0) onFirst();
      bytes += piece.length;
      yield piece;
    }
  } finally {
    onEnd(bytes);
  }
}
