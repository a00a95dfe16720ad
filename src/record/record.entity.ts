import { defineEntity, p } from "@mikro-orm/core";
import type { TablesOf } from "../database/query-builder.ts";
import type { ConversionWarning } from "../audio/wav-to-mp3.ts";
import { User, type UserTables } from "../user/user.entity.ts";
import { visibilities } from "../settings/visibility.ts";

const AudioRecordSchema = defineEntity({
  name: "AudioRecord",
  tableName: "audio_record",
  properties: {
    id: p.uuid().primary(),
    owner: () => p.manyToOne(User).deleteRule("cascade"),
    /** The token that uploaded it; null: unknown. No reference: the token may be gone, and its id is never given twice. */
    madeBy: p.uuid().nullable(),
    /** `receiving` while its upload runs; nobody but the upload sees it then. */
    state: p.enum(["receiving", "ready"] as const),
    /** While receiving: the upload is alive until then, and is swept afterwards. */
    leaseUntil: p.datetime().nullable(),
    visibility: p.enum(visibilities).default("PUBLIC"),
    /** Names the upload among its owner's; a second one with the same key gets the first one's record. */
    idempotencyKey: p.uuid().nullable(),
    title: p.text(),
    fileName: p.text(),
    createdAt: p.datetime().defaultRaw("now()"),

    /** Bytes of chunk 0, which holds the MP3's head. */
    headBytes: p.integer().default(0),
    /** Bytes of each further chunk but the last. */
    chunkBytes: p.integer(),
    /** Bytes of the whole MP3. */
    sizeBytes: p.bigint("number").default(0),
    bitrateKbps: p.integer().default(0),
    sampleRateHz: p.integer().default(0),
    channels: p.integer().default(0),
    /** Samples of each channel in the source, at its own rate. */
    sourceSamples: p.bigint("number").default(0),
    sourceCodec: p.text().default(""),
    sourceBitsPerSample: p.integer().default(0),
    sourceSampleRateHz: p.integer().default(0),
    sourceChannels: p.integer().default(0),
    sourceBytes: p.bigint("number").default(0),
    /** Bytes behind the sound that `warnings` are about. */
    sourceLeftOutBytes: p.bigint("number").default(0),
    /** SHA-256 of the uploaded file in hexadecimal digits. */
    sourceSha256: p.text().default(""),
    tags: p.json<{ name: string; value: string }[]>().defaultRaw("'[]'"),
    warnings: p.json<ConversionWarning[]>().defaultRaw("'[]'"),
    integratedLufs: p.double().nullable(),
    samplePeakDbfs: p.double().nullable(),
    /** The waveform's minima and maxima; see `audio/waveform.ts`. */
    waveform: p.blob().lazy().nullable(),

    /** What titles are sorted by, and what a text is looked for in; see `search-text.ts`. */
    titleKey: p.text().collation("C").default("").lazy(),
    searchText: p.text().collation("C").default("").lazy(),
    durationSeconds: p
      .double()
      .generated(
        "(COALESCE(((source_samples)::double precision / (NULLIF(source_sample_rate_hz, 0))::double precision), (0)::double precision)) stored",
      ),
  },
  indexes: [
    // One index answers lists, counts and searches of a library without reading the table; see `list-records.ts`.
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
      name: "audio_record_lease",
      expression: "create index audio_record_lease on audio_record (lease_until) where state = 'receiving'",
    },
    {
      name: "audio_record_idempotency_key",
      expression:
        "create unique index audio_record_idempotency_key on audio_record (owner_id, idempotency_key) where idempotency_key is not null",
    },
    {
      // Holds all that a user's usage is summed from.
      name: "audio_record_usage",
      expression:
        "create index audio_record_usage on audio_record (owner_id) include (size_bytes, source_samples, source_sample_rate_hz) where state = 'ready'",
    },
  ],
});

/** One recording: who owns it, what it is, and how its MP3 is cut into chunks. */
export class AudioRecord extends AudioRecordSchema.class {}
AudioRecordSchema.setClass(AudioRecord);

const Mp3ChunkSchema = defineEntity({
  name: "Mp3Chunk",
  tableName: "mp3_chunk",
  properties: {
    record: () => p.manyToOne(AudioRecord).deleteRule("cascade").primary(),
    position: p.integer().primary(),
    /** Written and read by `mp3-chunks.ts` only, never through the ORM. */
    bytes: p.blob().lazy(),
  },
});

/** A piece of an MP3. The class gives the migrations its table; bytes never become entities. */
export class Mp3Chunk extends Mp3ChunkSchema.class {}
Mp3ChunkSchema.setClass(Mp3Chunk);

/** Recordings beside users, for the query builder. */
export type RecordTables = UserTables & TablesOf<typeof AudioRecordSchema | typeof Mp3ChunkSchema>;
