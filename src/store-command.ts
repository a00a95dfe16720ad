import { MemoryBlocks } from "./memory/memory-blocks.ts";
import {
  openDatabaseOf,
  refuseArgument,
  runProgram,
  UsageError,
  wholeNumber,
  type Given,
  type Outcome,
} from "./operator-command.ts";
import { deleteSources, moveRecords, type Stores } from "./record/move-records.ts";
import { chunkBytes } from "./record/mp3-chunks.ts";
import { Mp3Store } from "./record/mp3-store.ts";
import { differences, type Difference } from "./record/reconcile.ts";
import { openS3Mp3Store } from "./record/s3-mp3-store.ts";
import { ConfigError, type Config } from "./settings/config.ts";
import { storeNames } from "./settings/store-name.ts";
import { createLogger } from "./telemetry/logger.ts";

/** The text of --help. */
const help = `The operator's command for MP3s in S3. You can use it while the service is running.

  npm run store -- <command>                 (in the image: node dist/src/store-command.js <command>)

  reconcile                     compares the bucket with the recordings, and changes nothing
        [--delete]              deletes objects without a recording, and uploads that nobody completes
        [--min-age-hours 24]    leaves younger objects alone; those of uploads that may still run stay in any case
        [--max-percent 10]      refuses to delete if more of the objects would go
  move-records --to s3          copies the MP3s of all recordings into the bucket, or with --to postgres into rows, compares
                                the copies, and reads them from there; it can be stopped and run again
        [--delete-source]       deletes what recordings that have moved have left in the other place, and moves nothing

  --json    prints JSON, for programs (with npm run --silent)
  --help    prints this text

The settings of the service select the database (DATABASE_URL or DATA_DIR) and the bucket (S3_*).
Exit codes: 0 done; 1 not done, or bytes of a recording are missing; 2 the command was not understood.
`;

/** Most ids that are shown. */
const shownIds = 20;

/** The options of all commands. */
const options = {
  delete: { type: "boolean" },
  "min-age-hours": { type: "string" },
  "max-percent": { type: "string" },
  to: { type: "string" },
  "delete-source": { type: "boolean" },
} as const;

async function reconcile(stores: Stores, { argument, values, config }: Given<typeof options>): Promise<Outcome> {
  refuseArgument(argument);
  const maxPercent = wholeNumber("--max-percent", values["max-percent"] ?? "10", 0, 100);
  const minAgeHours = wholeNumber("--min-age-hours", values["min-age-hours"] ?? "24", 0, 24 * 366);
  const { s3 } = stores;
  const now = Date.now();
  // No upload runs for longer, so what is older has lost its recording for good.
  const uploadMs = config.uploadTimeoutSeconds * 1000;
  const isOlder = (since: Date | undefined, ageMs: number): boolean => (since?.getTime() ?? Infinity) < now - ageMs;
  const mayGo = ({ kind, writtenAt }: Difference): boolean =>
    kind === "orphan" && isOlder(writtenAt, Math.max(minAgeHours * 3_600_000, uploadMs));
  const isForgotten = ({ begunAt }: { begunAt: Date | undefined }): boolean => isOlder(begunAt, uploadMs);
  const counts = {
    objects: 0,
    bytes: 0,
    orphans: 0,
    orphanBytes: 0,
    youngOrphans: 0,
    missing: 0,
    wrongSize: 0,
    openUploads: 0,
  };
  const names = { orphan: "orphans", missing: "missing", "wrong size": "wrongSize" } as const;
  const shown: Difference[] = [];
  const found = differences(stores, ({ sizeBytes }) => {
    counts.objects += 1;
    counts.bytes += sizeBytes;
  });
  for await (const difference of found) {
    counts[names[difference.kind]] += 1;
    if (difference.kind === "orphan") {
      counts.orphanBytes += difference.sizeBytes;
      if (!mayGo(difference)) counts.youngOrphans += 1;
    }
    if (shown.length < shownIds) shown.push(difference);
  }
  for await (const upload of s3.openUploads()) if (isForgotten(upload)) counts.openUploads += 1;

  let deleted = 0;
  if (values.delete) {
    const going = counts.orphans - counts.youngOrphans;
    const mostDeleted = (counts.objects * maxPercent) / 100;
    if (going > mostDeleted) {
      throw new Error(
        `${going} of ${counts.objects} objects have no recording: more than ${maxPercent} % would go. Check that ` +
          "the database is the right one and complete, or raise --max-percent.",
      );
    }
    for await (const difference of differences(stores, () => {})) {
      if (!mayGo(difference)) continue;
      // The database has changed since they were counted.
      if (deleted + 1 > mostDeleted) {
        throw new Error(
          `More objects have no recording than a moment ago: more than ${maxPercent} % would go. ${deleted} were deleted. ` +
            "Check that the database is the right one and complete.",
        );
      }
      await s3.remove(difference.recordId, { mayBeWritten: true });
      deleted += 1;
    }
    for await (const upload of s3.openUploads()) if (isForgotten(upload)) await s3.abort(upload);
  }
  return {
    lines: [
      `Objects: ${counts.objects} (${counts.bytes} bytes)`,
      `Without a recording: ${counts.orphans} (${counts.orphanBytes} bytes), too young to be deleted: ${counts.youngOrphans}`,
      `Recordings without their object: ${counts.missing}`,
      `Recordings whose object has another size: ${counts.wrongSize}`,
      `Uploads that nobody completes: ${counts.openUploads}`,
      ...shown.map(({ kind, recordId }) => `  ${kind}: ${recordId}`),
      ...(values.delete ? [`Deleted objects: ${deleted}`] : []),
    ],
    json: { ...counts, shown, deleted },
    isDamaged: counts.missing + counts.wrongSize > 0,
  };
}

async function move(stores: Stores, { argument, values }: Given<typeof options>): Promise<Outcome> {
  refuseArgument(argument);
  const to = storeNames.find((name) => name === values.to);
  if (to === undefined) throw new UsageError(`move-records needs --to ${storeNames.join(" or --to ")}.`);
  if (values["delete-source"]) {
    let sources = 0;
    for await (const _ of deleteSources(stores, to)) sources += 1;
    return { lines: [`Deleted sources of recordings: ${sources}`], json: { deletedSources: sources } };
  }
  let [moved, bytes, missing] = [0, 0, 0];
  const shown: { kind: "missing"; recordId: string }[] = [];
  for await (const { kind, record } of moveRecords(stores, to)) {
    if (kind === "missing") {
      missing += 1;
      if (shown.length < shownIds) shown.push({ kind, recordId: record.id });
      continue;
    }
    moved += 1;
    bytes += record.sizeBytes;
    if (moved % 100 === 0) process.stderr.write(`Moved recordings: ${moved}\n`);
  }
  return {
    lines: [
      `Moved recordings: ${moved} (${bytes} bytes)`,
      `Recordings that stay, because bytes of them are missing: ${missing}`,
      ...shown.map(({ kind, recordId }) => `  ${kind}: ${recordId}`),
    ],
    json: { moved, bytes, missing, shown },
    isDamaged: missing > 0,
  };
}

async function open(config: Config, resources: AsyncDisposableStack): Promise<Stores> {
  if (config.s3Bucket === undefined) throw new ConfigError("S3_BUCKET is not set: there is no bucket to work on");
  const { em, pool } = resources.use(await openDatabaseOf(config, resources));
  const rowMemory = new MemoryBlocks(chunkBytes, 4);
  const s3 = resources.use(await openS3Mp3Store(config, rowMemory, createLogger({ logLevel: "silent" })));
  const { store: newIn, databaseFailoverSeconds: failoverSeconds } = config;
  return { em, s3, store: new Mp3Store({ em, pool, rowMemory, s3, newIn, failoverSeconds }) };
}

await runProgram({
  name: "npm run store",
  help,
  options,
  commands: {
    reconcile: { options: ["delete", "min-age-hours", "max-percent"], run: reconcile },
    "move-records": { options: ["to", "delete-source"], run: move },
  },
  open,
});
