import type { ListedRecord } from "../record/record.entity.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { ClientSpeed } from "./client-speed.ts";

/** Notes a recording that an upload has stored, and how long after the last byte of its file that was. */
export function noteStored(
  metrics: Metrics | undefined,
  { sourceBytes, sizeBytes, sourceSamples, sourceSampleRateHz }: ListedRecord,
  { endedAt }: Pick<ClientSpeed, "endedAt">,
): void {
  metrics?.recordStored({
    wavBytes: sourceBytes,
    mp3Bytes: sizeBytes,
    soundSeconds: sourceSamples / sourceSampleRateHz,
  });
  if (endedAt !== undefined) metrics?.uploadAnswered((performance.now() - endedAt) / 1000);
}
