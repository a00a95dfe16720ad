import { defineEntity, p } from "@mikro-orm/core";
import type { TablesOf } from "../database/query-builder.ts";
import type { Chapter } from "../audio/tag-contents.ts";
import type { ProductionFacts } from "../audio/wav/production-notes.ts";
import type { ConversionWarning } from "../audio/wav-to-mp3.ts";
import { User, type UserTables } from "../user/user.entity.ts";
import type { StoreName } from "../settings/store-name.ts";
import { visibilities } from "../settings/visibility.ts";

const AudioRecordSchema = defineEntity({
  name: "AudioRecord",
  tableName: "audio_record",
  properties: {
    id: p.uuid().primary(),
    owner: () => p.manyToOne(User).deleteRule("cascade"),
    /**
     * Id of the token that uploaded the recording; null if unknown. Not a foreign key: the token may be deleted, and
     * its id is never reused.
     */
    madeBy: p.uuid().nullable(),
    /**
     * `receiving` while the upload runs. Only the upload sees the row then. `dead` if the upload has ended without a
     * result: then only `upload-leases.ts` sees it, which deletes it.
     */
    state: p.enum(["receiving", "ready", "dead"] as const),
    /** The time until which a receiving upload counts as alive; null when ready. */
    leaseUntil: p.datetime().nullable(),
    visibility: p.enum(visibilities).default("PUBLIC"),
    /**
     * Identifies the upload among those of its owner. A second upload with the same key gets the recording of the
     * first.
     */
    idempotencyKey: p.uuid().nullable(),
    title: p.text(),
    fileName: p.text(),
    createdAt: p.datetime().defaultRaw("now()"),

    /** Where the MP3 is. The key of an object follows from the id; see `s3-mp3-store.ts`. */
    store: p.text().$type<StoreName>().default("postgres"),
    /** Size of the MP3's head, which is chunk 0, in bytes. */
    headBytes: p.integer().default(0),
    /** Size of the other chunks except the last, in bytes. */
    chunkBytes: p.integer(),
    /** Size of the whole MP3, in bytes. */
    sizeBytes: p.bigint("number").default(0),
    bitrateKbps: p.integer().default(0),
    sampleRateHz: p.integer().default(0),
    channels: p.integer().default(0),
    /** Samples per channel in the source, at its own rate. */
    sourceSamples: p.bigint("number").default(0),
    sourceCodec: p.text().default(""),
    sourceBitsPerSample: p.integer().default(0),
    sourceSampleRateHz: p.integer().default(0),
    sourceChannels: p.integer().default(0),
    sourceBytes: p.bigint("number").default(0),
    /** Number of bytes after the sound that were left out; see `warnings`. */
    sourceLeftOutBytes: p.bigint("number").default(0),
    /** SHA-256 of the uploaded file, in hexadecimal digits. */
    sourceSha256: p.text().default(""),
    tags: p.json<{ name: string; value: string }[]>().defaultRaw("'[]'"),
    warnings: p.json<ConversionWarning[]>().defaultRaw("'[]'"),
    integratedLufs: p.double().$type<number>().nullable(),
    samplePeakDbfs: p.double().$type<number>().nullable(),
    truePeakDbtp: p.double().$type<number>().nullable(),
    loudnessRangeLu: p.double().$type<number>().nullable(),
    /** Steps of gain (see `audio/mp3/mp3-gain.ts`) that are applied to the frames when they are sent. */
    gainSteps: p.integer().default(0),
    /** The waveforms of recordings from before {@link RecordWaveform}. The file move-waveforms of deploy moves them there. */
    waveform: p.blob().lazy().nullable(),
    waveformDetail: p.blob().lazy().nullable(),
    /** Null, like {@link production}, if there are none, and for recordings from before they were kept. */
    chapters: p.json<Chapter[]>().lazy().nullable(),
    production: p.json<ProductionFacts>().lazy().nullable(),

    /** The sort key of the title, and the text that is searched; see `search-text.ts`. */
    titleKey: p.text().collation("C").default("").lazy(),
    searchText: p.text().collation("C").default("").lazy(),
    durationSeconds: p
      .double()
      .generated(
        "(COALESCE(((source_samples)::double precision / (NULLIF(source_sample_rate_hz, 0))::double precision), (0)::double precision)) stored",
      ),
  },
  indexes: [
    // One index serves lists, counts and searches of a library without reading the table; see `list-records.ts`.
    {
      name: "audio_record_library",
      expression:
        "create index audio_record_library on audio_record (owner_id, state, created_at, id) " +
        "include (title_key, duration_seconds, size_bytes, search_text)",
    },
    {
      name: "audio_record_title",
      expression: "create index audio_record_title on audio_record (owner_id, title_key, id) where state = 'ready'",
    },
    {
      name: "audio_record_duration",
      expression:
        "create index audio_record_duration on audio_record (owner_id, duration_seconds, id) where state = 'ready'",
    },
    {
      name: "audio_record_size",
      expression: "create index audio_record_size on audio_record (owner_id, size_bytes, id) where state = 'ready'",
    },
    {
      name: "audio_record_expiry",
      // Not `where state = 'receiving'`: there are hardly any, so that the planner would use it for every row that is
      // written to a receiving recording, and read it all each time.
      expression: "create index audio_record_expiry on audio_record (lease_until) where lease_until is not null",
    },
    {
      name: "audio_record_idempotency_key",
      expression:
        "create unique index audio_record_idempotency_key on audio_record (owner_id, idempotency_key) where idempotency_key is not null",
    },
    {
      name: "audio_record_source",
      expression: "create index audio_record_source on audio_record (owner_id, source_sha256) where state = 'ready'",
    },
    {
      // Contains all columns from which a user's usage is summed.
      name: "audio_record_usage",
      expression:
        "create index audio_record_usage on audio_record (owner_id) include (size_bytes, source_samples, source_sample_rate_hz) where state = 'ready'",
    },
  ],
  triggers: [
    // A trigger, so that cascades and an operator's own statements count, too. See `object-sweeper.ts`.
    {
      name: "note_deleted_object",
      timing: "after",
      events: ["delete"],
      forEach: "row",
      when: "(old.store = 's3'::text)",
      body:
        "insert into deleted_object (record_id, may_be_written) values (old.id, old.state <> 'ready') " +
        "on conflict (record_id) do nothing; return null",
    },
  ],
});

/** A recording: its owner, its properties, and how its MP3 is divided into chunks. */
export class AudioRecord extends AudioRecordSchema.class {}
AudioRecordSchema.setClass(AudioRecord);

/** Properties that can be most of a row, so that lists read them only if they are asked for. */
export const bulkyProperties = ["tags", "chapters", "production"] as const;
export type BulkyProperty = (typeof bulkyProperties)[number];

/** Properties that no answer takes from here: they serve searches, uploads that run, and recordings of earlier versions. */
type InnerProperty =
  "titleKey" | "searchText" | "durationSeconds" | "leaseUntil" | "idempotencyKey" | "waveform" | "waveformDetail";

/** A recording as a list reads it. A bulky property that was not read is undefined. */
export type ListedRecord = Pick<
  AudioRecord,
  Exclude<keyof AudioRecord, BulkyProperty | InnerProperty | "owner" | symbol>
> &
  Partial<Pick<AudioRecord, BulkyProperty>> & { readonly owner: Pick<User, "id" | "name" | "createdAt"> };

const RecordWaveformSchema = defineEntity({
  name: "RecordWaveform",
  tableName: "record_waveform",
  properties: {
    record: () => p.manyToOne(AudioRecord).deleteRule("cascade").primary(),
    /** The waveform's minima and maxima; see `audio/meter/waveform.ts`. */
    overview: p.blob(),
    /** The same with more bins; null for short recordings. */
    detail: p.blob().nullable(),
  },
});

/** The waveform of a ready recording. In the recording's own row, it would be most of it, and rarely read. */
export class RecordWaveform extends RecordWaveformSchema.class {}
RecordWaveformSchema.setClass(RecordWaveform);

const Mp3ChunkSchema = defineEntity({
  name: "Mp3Chunk",
  tableName: "mp3_chunk",
  properties: {
    record: () => p.manyToOne(AudioRecord).deleteRule("cascade").primary(),
    position: p.integer().primary(),
    /** Written by `mp3-chunks.ts` and, for the head, `finish-record.ts`; never loaded as an entity. */
    bytes: p.blob().lazy(),
  },
});

/**
 * A chunk of an MP3. The class defines the table for migrations; chunks are never loaded as entities. Operators of large
 * databases divide it (the file partition-chunks of deploy).
 */
export class Mp3Chunk extends Mp3ChunkSchema.class {}
Mp3ChunkSchema.setClass(Mp3Chunk);

const DeletedObjectSchema = defineEntity({
  name: "DeletedObject",
  tableName: "deleted_object",
  properties: {
    /** Not a foreign key: the recording is deleted. */
    recordId: p.uuid().primary(),
    /** Whether the recording was not ready, so that its upload may still write. */
    mayBeWritten: p.boolean(),
    deletedAt: p.datetime().defaultRaw("now()"),
    /** The time of the next attempt. */
    notBefore: p.datetime().defaultRaw("now()"),
  },
  indexes: [
    {
      name: "deleted_object_not_before",
      expression: "create index deleted_object_not_before on deleted_object (not_before)",
    },
  ],
});

/** An object of S3 to delete. A trigger inserts it when its recording is deleted, by whatever statement. */
export class DeletedObject extends DeletedObjectSchema.class {}
DeletedObjectSchema.setClass(DeletedObject);

/** The tables of recordings and users, for the query builder. */
export type RecordTables = UserTables &
  TablesOf<typeof AudioRecordSchema | typeof RecordWaveformSchema | typeof Mp3ChunkSchema | typeof DeletedObjectSchema>;
