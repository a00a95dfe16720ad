import { GraphQLDateTime, GraphQLNonNegativeFloat, GraphQLSafeInt } from "graphql-scalars";
import { Field, Float, Int, ObjectType, registerEnumType } from "type-graphql";
import { tagTable } from "../audio/tag-table.ts";
import { maxTagCharacters } from "../audio/wav/wav-tags.ts";
import type { ConversionWarning } from "../audio/wav-to-mp3.ts";
import { Facts } from "../graphql/field-facts.ts";
import { Node } from "../graphql/node.type.ts";
import { toUserType, UserType } from "../user/user.type.ts";
import { maxFileNameLength } from "./file-name.ts";
import { maxTitleLength } from "./record-title.ts";
import type { AudioRecord } from "./record.entity.ts";
import type { Visibility } from "../settings/visibility.ts";

/** How much sound an MP3 keeps. */
export const QualityEnum = { LOW: "LOW", STANDARD: "STANDARD", HIGH: "HIGH" } as const;
registerEnumType(QualityEnum, {
  name: "Quality",
  description:
    "The MP3's constant bit rate. Sample rates below 32 kHz have lower limits: 160 kbit/s, and 64 below 16 kHz.",
  valuesConfig: {
    LOW: { description: "96 kbit/s stereo, 48 kbit/s mono: for speech." },
    STANDARD: { description: "192 kbit/s stereo, 96 kbit/s mono." },
    HIGH: { description: "320 kbit/s stereo, 160 kbit/s mono." },
  },
});

/** Who may read a recording by its plain link. */
export const VisibilityEnum: { readonly [V in Visibility]: V } = { PUBLIC: "PUBLIC", PRIVATE: "PRIVATE" };
registerEnumType(VisibilityEnum, {
  name: "Visibility",
  description: "Who may read a recording by its plain link, the one in `url`.",
  valuesConfig: {
    PUBLIC: { description: "Whoever has the link." },
    PRIVATE: {
      description:
        "The owner: without the owner's Bearer token the link answers 404. Links of `createLink` still work.",
    },
  },
});

/** Remarks on an upload that was stored all the same. */
export const RecordWarningEnum: { readonly [W in ConversionWarning]: W } = {
  CUT_SHORT: "CUT_SHORT",
  DAMAGED: "DAMAGED",
  CLIPPED: "CLIPPED",
  SILENT: "SILENT",
  MIXED_DOWN: "MIXED_DOWN",
  RESAMPLED: "RESAMPLED",
  RESCALED: "RESCALED",
  SOUND_LEFT_OUT: "SOUND_LEFT_OUT",
  TRAILING_JUNK: "TRAILING_JUNK",
};
registerEnumType(RecordWarningEnum, {
  name: "RecordWarning",
  description: "A remark on a recording that was stored all the same.",
  valuesConfig: {
    CUT_SHORT: {
      description:
        "The WAV ended before its header said; the MP3 holds what arrived. Send the whole file, if there is one.",
    },
    DAMAGED: { description: "Blocks of its ADPCM sound are damaged; they were left out, so the MP3 is shorter." },
    CLIPPED: { description: "Several samples in a row stand at full scale: the recording was probably too loud." },
    SILENT: { description: "There is no sound in it." },
    MIXED_DOWN: {
      description:
        "It had more than two channels, which were mixed to stereo by position; what has none stands in the middle.",
    },
    RESAMPLED: { description: "MP3 does not know its sample rate, so it was converted to one that MP3 knows." },
    RESCALED: {
      description:
        "Its floating-point samples had the range of integers (such as -32768 to 32767 instead of -1 to 1), by which " +
        "they were divided.",
    },
    SOUND_LEFT_OUT: {
      description:
        "Another WAV of another format followed the first one. It was left out; `source.leftOutBytes` says how much that was.",
    },
    TRAILING_JUNK: {
      description:
        "Bytes that are neither sound nor a WAV chunk followed the sound. They were left out; `source.leftOutBytes` says how many.",
    },
  },
});

@ObjectType("Tag", { description: "A piece of text that the WAV carried, such as its title or artist." })
export class TagType {
  @Field(() => String, { description: "What it says something about, in lower case: `title`, `artist`, `date` ..." })
  @Facts({ maxCharacters: Math.max(...tagTable.map(({ name }) => name.length)) })
  name!: string;

  @Field(() => String, { description: "What it says." })
  @Facts({ maxCharacters: maxTagCharacters })
  value!: string;
}

@ObjectType("Loudness", { description: "How loud a recording is. The sound itself is never changed." })
export class LoudnessType {
  @Field(() => Float, { description: "Integrated loudness by EBU R 128 (ITU-R BS.1770-4), in LUFS." })
  integratedLufs!: number;

  @Field(() => Float, { description: "The largest sample, in dB relative to full scale." })
  samplePeakDbfs!: number;
}

@ObjectType("RecordSource", { description: "The WAV file as it was uploaded." })
export class RecordSourceType {
  @Field(() => String, {
    description: "How its samples are coded: `pcm`, `float`, `alaw`, `mulaw`, `ms-adpcm`, `ima-adpcm`.",
  })
  @Facts({ maxCharacters: "ima-adpcm".length })
  codec!: string;

  @Field(() => Int, { description: "Bits of one sample." })
  bitsPerSample!: number;

  @Field(() => Int, { description: "Samples of each channel in a second." })
  sampleRateHz!: number;

  @Field(() => Int, { description: "Number of channels." })
  channels!: number;

  @Field(() => GraphQLSafeInt, { description: "Size of the uploaded file, in bytes." })
  sizeBytes!: number;

  @Field(() => GraphQLSafeInt, {
    description: "Bytes behind the sound that were left out; `warnings` says what they were. 0 without such a warning.",
  })
  leftOutBytes!: number;

  @Field(() => String, { description: "SHA-256 of the uploaded file, in hexadecimal digits." })
  @Facts({ maxCharacters: 64 })
  sha256!: string;
}

@ObjectType("Record", { implements: Node, description: "One uploaded recording, stored as MP3. The id is a UUID." })
export class RecordType extends Node {
  @Field(() => String, {
    description: "Its title: as given, else from the WAV's tags, else the file name without its ending.",
  })
  @Facts({ maxCharacters: maxTitleLength })
  title!: string;

  @Field(() => String, { description: "The name of the uploaded file." })
  @Facts({ maxCharacters: maxFileNameLength })
  fileName!: string;

  @Field(() => GraphQLDateTime, { description: "When the upload began." })
  createdAt!: Date;

  @Field(() => VisibilityEnum, { description: "Who may read it by its plain link." })
  visibility!: Visibility;

  @Field(() => UserType, { description: "Whose recording it is." })
  owner!: UserType;

  @Field(() => GraphQLNonNegativeFloat, { description: "Exact length of the sound, in seconds." })
  durationSeconds!: number;

  @Field(() => GraphQLSafeInt, { description: "Size of the MP3, in bytes." })
  sizeBytes!: number;

  @Field(() => Int, { description: "The MP3's constant bit rate, in kbit/s." })
  bitrateKbps!: number;

  @Field(() => Int, { description: "The MP3's samples of each channel in a second." })
  sampleRateHz!: number;

  @Field(() => Int, { description: "The MP3's channels: 1 or 2." })
  channels!: number;

  @Field(() => RecordSourceType, { description: "The WAV file as it was uploaded." })
  source!: RecordSourceType;

  @Field(() => String, {
    description: "SHA-256 of the uploaded file, in hexadecimal digits; the same as `source.sha256`.",
  })
  @Facts({ maxCharacters: 64 })
  sourceSha256!: string;

  @Field(() => [TagType], { description: "Text that the WAV carried." })
  @Facts({ listLength: () => tagTable.length })
  tags!: TagType[];

  @Field(() => LoudnessType, { nullable: true, description: "Null when it is silent or shorter than 0.4 s." })
  loudness!: LoudnessType | null;

  @Field(() => [RecordWarningEnum], { description: "What was odd about the upload." })
  @Facts({ listLength: () => Object.keys(RecordWarningEnum).length })
  warnings!: ConversionWarning[];
}

/** The record as the API shows it; its owner must be loaded. */
export function toRecordType(record: AudioRecord): RecordType {
  const { integratedLufs, samplePeakDbfs } = record;
  return Object.assign(new RecordType(), {
    id: record.id,
    title: record.title,
    fileName: record.fileName,
    createdAt: record.createdAt,
    visibility: record.visibility,
    owner: toUserType(record.owner),
    durationSeconds: record.sourceSamples / record.sourceSampleRateHz,
    sizeBytes: record.sizeBytes,
    bitrateKbps: record.bitrateKbps,
    sampleRateHz: record.sampleRateHz,
    channels: record.channels,
    source: {
      codec: record.sourceCodec,
      bitsPerSample: record.sourceBitsPerSample,
      sampleRateHz: record.sourceSampleRateHz,
      channels: record.sourceChannels,
      sizeBytes: record.sourceBytes,
      leftOutBytes: record.sourceLeftOutBytes,
      sha256: record.sourceSha256,
    },
    sourceSha256: record.sourceSha256,
    tags: record.tags,
    loudness: integratedLufs == null || samplePeakDbfs == null ? null : { integratedLufs, samplePeakDbfs },
    warnings: record.warnings,
  });
}
