import { GraphQLDateTime, GraphQLNonNegativeFloat, GraphQLSafeInt } from "../graphql/scalars.ts";
import { Field, Float, Int, ObjectType, registerEnumType } from "type-graphql";
import { mp3GainDb } from "../audio/mp3/mp3-gain.ts";
import { tagTable } from "../audio/tag-table.ts";
import { maxTagCharacters } from "../audio/wav/wav-tags.ts";
import type { Quality } from "../audio/mp3/quality.ts";
import type { ConversionWarning } from "../audio/wav-to-mp3.ts";
import { Facts } from "../graphql/field-facts.ts";
import { Node } from "../graphql/node.type.ts";
import { toUserType, UserType } from "../user/user.type.ts";
import { maxFileNameLength } from "./file-name.ts";
import { maxTitleLength } from "./record-title.ts";
import type { ListedRecord } from "./record.entity.ts";
import type { Visibility } from "../settings/visibility.ts";

/** The quality of an MP3. */
export const QualityEnum: { readonly [Q in Quality]: Q } = {
  SPEECH: "SPEECH",
  LOW: "LOW",
  STANDARD: "STANDARD",
  HIGH: "HIGH",
};
registerEnumType(QualityEnum, {
  name: "Quality",
  description:
    "Constant bit rate of the MP3. A low sample rate of the WAV limits it, for each channel: to 6 bits a sample in " +
    "SPEECH and LOW, and to 8 bits in STANDARD and HIGH. A telephone call of 8 kHz gets 48 or 64 kbit/s. At 22.05 and " +
    "24 kHz the maximum is 160 kbit/s.",
  valuesConfig: {
    SPEECH: { description: "64 kbit/s mono: for voices. Stereo is mixed to mono." },
    LOW: { description: "96 kbit/s stereo, 64 kbit/s mono." },
    STANDARD: { description: "192 kbit/s stereo, 96 kbit/s mono." },
    HIGH: { description: "320 kbit/s stereo, 160 kbit/s mono." },
  },
});

/** Who may read a recording by its plain link. */
export const VisibilityEnum: { readonly [V in Visibility]: V } = { PUBLIC: "PUBLIC", PRIVATE: "PRIVATE" };
registerEnumType(VisibilityEnum, {
  name: "Visibility",
  description: "Who can open a recording by its `url`.",
  valuesConfig: {
    PUBLIC: { description: "Anyone who has the link." },
    PRIVATE: {
      description:
        "Only the owner: without the owner's Bearer token the link answers 404. Share links from `createLink` " +
        "still work.",
    },
  },
});

/** Findings of the conversion that did not prevent a recording from being stored. */
const RecordWarningEnum: { readonly [W in ConversionWarning]: W } = {
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
  description: "A finding of the conversion that did not prevent the recording from being stored.",
  valuesConfig: {
    CUT_SHORT: {
      description:
        "The WAV is shorter than its header says. The MP3 has what arrived. If you have the complete file, send " +
        "it again.",
    },
    DAMAGED: { description: "Some blocks of the coded sound are damaged. They were left out, so the MP3 is shorter." },
    CLIPPED: {
      description:
        "Several consecutive samples of one channel are at full scale: the recording level was probably too high. " +
        "Floating-point samples over full scale are not clipped.",
    },
    SILENT: {
      description:
        "There is no sound: only silence, or dither of 16 bits (of 24 bits if the samples have more than 16).",
    },
    MIXED_DOWN: {
      description:
        "The WAV has more than two channels. They were mixed to stereo by their positions; channels without a " +
        "position are in the centre.",
    },
    RESAMPLED: {
      description: "MP3 does not support the WAV's sample rate, so the sound was converted to one that it supports.",
    },
    RESCALED: {
      description:
        "The floating-point samples had the range of integers (such as -32768 to 32767 instead of -1 to 1). They " +
        "were scaled to -1 to 1.",
    },
    SOUND_LEFT_OUT: {
      description:
        "A second WAV of a different format follows the first one. It was left out; `source.leftOutBytes` is its " +
        "size.",
    },
    TRAILING_JUNK: {
      description:
        "Bytes that are neither sound nor a WAV chunk follow the sound. They were left out; " +
        "`source.leftOutBytes` is their number.",
    },
  },
});

@ObjectType("RecordingTag", { description: "A tag of the WAV, such as its title or artist." })
class TagType {
  @Field(() => String, { description: "Name of the tag in lower case: `title`, `artist`, `date` ..." })
  @Facts({ maxCharacters: Math.max(...tagTable.map(({ name }) => name.length)) })
  name!: string;

  @Field(() => String, { description: "Text of the tag." })
  @Facts({ maxCharacters: maxTagCharacters })
  value!: string;
}

@ObjectType("Loudness", {
  description:
    "Measured loudness of the WAV. If it has more than two channels, that of its stereo mix, in which each channel is " +
    "attenuated so that their sum fits. The MP3 is louder or quieter than this by `mp3GainDb` of the recording.",
})
export class LoudnessType {
  @Field(() => Float, {
    description:
      "Integrated loudness according to EBU R 128 (ITU-R BS.1770-4), in LUFS. Mono counts as one channel: 3 LU below the " +
      "same sound on two channels.",
  })
  integratedLufs!: number;

  @Field(() => Float, {
    nullable: true,
    description:
      "Loudness range according to EBU Tech 3342, in LU. Null if the sound is shorter than 3 s, or if the recording was " +
      "uploaded before this was measured.",
  })
  rangeLu!: number | null;

  @Field(() => Float, { description: "Largest sample, in dB relative to full scale (dBFS)." })
  samplePeakDbfs!: number;

  @Field(() => Float, {
    nullable: true,
    description: "The same as `truePeakDbtp` of the recording.",
  })
  truePeakDbtp!: number | null;
}

@ObjectType("RecordSource", { description: "Facts about the uploaded WAV file. The file itself is not kept." })
class RecordSourceType {
  @Field(() => String, {
    description:
      "Encoding of the samples: `pcm`, `float`, `alaw`, `mulaw`, `ms-adpcm`, `ima-adpcm`, `oki-adpcm` (also Dialogic), " +
      "`yamaha-adpcm`, `g722`, `g726` (also G.721), `gsm` (GSM 6.10), `mp2` and `mp3` (MPEG audio in a WAV).",
  })
  @Facts({ maxCharacters: "yamaha-adpcm".length })
  codec!: string;

  @Field(() => Int, { description: "Bits per sample; 0 in `gsm`, `mp2` and `mp3`, which have no fixed number." })
  bitsPerSample!: number;

  @Field(() => Int, { description: "Sample rate, in Hz." })
  sampleRateHz!: number;

  @Field(() => Int, { description: "Number of channels." })
  channels!: number;

  @Field(() => GraphQLSafeInt, { description: "Size of the uploaded file, in bytes." })
  sizeBytes!: number;

  @Field(() => GraphQLSafeInt, {
    description:
      "Number of bytes after the sound that were left out; `warnings` says what they were. 0 if there is no " +
      "such warning.",
  })
  leftOutBytes!: number;

  @Field(() => String, { description: "SHA-256 of the uploaded file, in hexadecimal digits." })
  @Facts({ maxCharacters: 64 })
  sha256!: string;
}

@ObjectType("Recording", {
  implements: Node,
  description: "A recording that was uploaded and stored as MP3. Its id is a UUID.",
})
export class RecordType extends Node {
  /** Not an API field: id of the token that uploaded it. */
  madeBy!: string | null;

  /** Not an API field: the chapters and production, if they were read with the recording. See `record.resolver.ts`. */
  read!: Pick<ListedRecord, "chapters" | "production">;

  @Field(() => String, {
    description:
      "The title: the one given, or else the one in the WAV's tags, or else the file name without its extension.",
  })
  @Facts({ maxCharacters: maxTitleLength })
  title!: string;

  @Field(() => String, { description: "Name of the uploaded file." })
  @Facts({ maxCharacters: maxFileNameLength })
  fileName!: string;

  @Field(() => GraphQLDateTime, { description: "When the upload began." })
  createdAt!: Date;

  @Field(() => VisibilityEnum, { description: "Who can open the recording by its `url`." })
  visibility!: Visibility;

  @Field(() => UserType, { description: "The user who owns the recording." })
  owner!: UserType;

  @Field(() => GraphQLNonNegativeFloat, { description: "Exact duration of the sound, in seconds." })
  durationSeconds!: number;

  @Field(() => GraphQLSafeInt, { description: "Size of the MP3, in bytes." })
  sizeBytes!: number;

  @Field(() => Int, { description: "Constant bit rate of the MP3, in kbit/s." })
  bitrateKbps!: number;

  @Field(() => Int, { description: "Sample rate of the MP3, in Hz." })
  sampleRateHz!: number;

  @Field(() => Int, { description: "Number of channels of the MP3: 1 or 2." })
  channels!: number;

  @Field(() => RecordSourceType, { description: "Facts about the uploaded WAV file." })
  source!: RecordSourceType;

  @Field(() => String, {
    description: "SHA-256 of the uploaded file, in hexadecimal digits; the same as `source.sha256`.",
  })
  @Facts({ maxCharacters: 64 })
  sourceSha256!: string;

  @Field(() => [TagType], { description: "Tags of the WAV." })
  @Facts({ listLength: () => tagTable.length })
  tags!: TagType[];

  @Field(() => LoudnessType, {
    nullable: true,
    description: "Loudness of the recording. Null if it is silent or shorter than 0.4 s.",
  })
  loudness!: LoudnessType | null;

  @Field(() => Float, {
    nullable: true,
    description:
      "Largest sample of the WAV, in dB relative to full scale (dBFS). Positive only for floating-point samples. If the " +
      "WAV has more than two channels, that of its stereo mix. Null if every sample is zero.",
  })
  samplePeakDbfs!: number | null;

  @Field(() => Float, {
    nullable: true,
    description:
      "Largest value between the samples of the WAV according to ITU-R BS.1770-4, in dB (dBTP); at least " +
      "`samplePeakDbfs`. Null if every sample is zero, or if the recording was uploaded before this was measured.",
  })
  truePeakDbtp!: number | null;

  @Field(() => Float, {
    description:
      "How much louder the MP3 is than the WAV, or than its stereo mix, in dB. Below 256 kbit/s the encoder makes sound " +
      "quieter as a guard against clipping: by 0.45 dB up to 160 kbit/s, 0.26 dB at 192 and 0.18 dB at 224. " +
      "Floating-point samples over full scale are brought down to a true peak of -1 dBTP, and a stereo mix is brought up " +
      "towards it. The ReplayGain tags of the MP3 include this. A link with `loudness` adds to it.",
  })
  mp3GainDb!: number;

  @Field(() => [RecordWarningEnum], {
    description: "Findings of the conversion that did not prevent the recording from being stored.",
  })
  @Facts({ listLength: () => Object.keys(RecordWarningEnum).length })
  warnings!: ConversionWarning[];
}

/** Converts a recording to its API type. Its owner must be loaded, and its tags if they are selected. */
export function toRecordType(record: ListedRecord): RecordType {
  const { integratedLufs } = record;
  const peaks = { samplePeakDbfs: record.samplePeakDbfs ?? null, truePeakDbtp: record.truePeakDbtp ?? null };
  return Object.assign(new RecordType(), {
    id: record.id,
    madeBy: record.madeBy ?? null,
    read: { chapters: record.chapters, production: record.production },
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
    loudness:
      integratedLufs == null || peaks.samplePeakDbfs === null
        ? null
        : { integratedLufs, rangeLu: record.loudnessRangeLu ?? null, ...peaks },
    ...peaks,
    mp3GainDb: mp3GainDb(record.bitrateKbps, record.gainSteps),
    warnings: record.warnings,
  });
}
