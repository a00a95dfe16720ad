import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { mp3Head } from "../audio/mp3-head.ts";
import type { ConversionFacts } from "../audio/wav-to-mp3.ts";
import type { Caller } from "../caller/caller.ts";
import { throughFailover, type Patience } from "../database/failover.ts";
import { ServiceError } from "../errors/errors.ts";
import { rowBytes, takeAllowance, type Charge } from "../limits/write-allowance.ts";
import type { WrittenFrames } from "../record/arriving-mp3.ts";
import type { ListedRecord } from "../record/record.entity.ts";
import { titleFromFileName } from "../record/record-title.ts";
import type { Quota } from "../settings/config.ts";
import { finishUpload } from "./finish-record.ts";
import type { OwnerTurns } from "./owner-turns.ts";
import { isLimited, type QuotaState } from "./quota.ts";

/** A recording whose frames are stored. */
export interface CompleteRecord {
  readonly id: string;
  readonly owner: Caller;
  readonly charge: Charge;
  readonly fileName: string;
  /** The title that the client gave; empty if none. */
  readonly title: string;
  /** The expected SHA-256 of the file. */
  readonly sourceSha256: string | undefined;
  readonly facts: ConversionFacts;
  readonly frames: WrittenFrames;
  readonly quota: QuotaState;
  /** How long the database is waited for. */
  readonly patience: Patience;
  /** What else belongs to the same transaction. */
  readonly consume: ((em: SqlEntityManager) => Promise<void>) | undefined;
}

/**
 * Writes the head and makes a recording ready. Uploads of a user with a quota end one after the other: they wait in
 * `turns`, without a connection, unlike at the row lock.
 * @throws {ServiceError} BAD_USER_INPUT if the file has another SHA-256; RATE_LIMITED; what {@link finishUpload} throws
 */
export async function completeRecord(
  em: SqlEntityManager,
  record: CompleteRecord,
  turns: OwnerTurns,
  defaults: Quota,
): Promise<ListedRecord> {
  const { id, owner, charge, fileName, facts, frames, quota, patience, consume } = record;
  requireSha256(facts.source.sha256, record.sourceSha256);
  const title = record.title || facts.source.tags.get("title") || titleFromFileName(fileName);
  const head = await frames.complete((minBytes) => mp3Head(facts, title, minBytes));
  // The row of the recording has paid for its texts, but not for a cover, a waveform with details or many chapters,
  // which the row has, too.
  const waveformBytes = facts.sound.detailedWaveform?.extremes.length ?? 0;
  const furtherBytes = 2 * head.length - (facts.source.tags.cover?.bytes.length ?? 0) + waveformBytes;
  if (furtherBytes > rowBytes.record) {
    await throughFailover(async () => await takeAllowance(em, charge, furtherBytes), patience);
  }
  const { store, byteLength: frameBytes, unstored } = frames;
  const finished = { title, fileName, head, store, frameBytes, unstored, facts };
  const endsAt = performance.now() + patience.seconds * 1000;
  const finish = async () => {
    // The time in which uploads of the user wait for each other counts.
    const seconds = Math.max(0, endsAt - performance.now()) / 1000;
    return await finishUpload(em, id, owner, finished, defaults, { ...patience, seconds }, consume);
  };
  return isLimited(quota) ? await turns.run(owner.id, finish) : await finish();
}

function requireSha256(sha256: string, expected: string | undefined): void {
  if (expected === undefined || sha256 === expected) return;
  throw new ServiceError(
    "BAD_USER_INPUT",
    "The file that arrived does not have the SHA-256 in sourceSha256. Send the file again.",
    { argument: "sourceSha256", sha256 },
  );
}
