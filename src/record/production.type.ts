import { Field, Float, Int, ObjectType } from "type-graphql";
import type { Chapter } from "../audio/tag-contents.ts";
import { maxTitleCharacters } from "../audio/wav/cue-points.ts";
import { maxNameCharacters, maxNoteCharacters, maxTracks, type Track } from "../audio/wav/ixml.ts";
import type { ProductionFacts } from "../audio/wav/production-notes.ts";
import { Facts } from "../graphql/field-facts.ts";
import { GraphQLSafeInt } from "../graphql/scalars.ts";

@ObjectType("RecordingChapter", {
  description:
    "A part of the recording, from a cue point of the WAV to the next one. The MP3 has it as an ID3 chapter.",
})
export class ChapterType implements Chapter {
  @Field(() => String, { nullable: true, description: "Label of the cue point (`labl`)." })
  @Facts({ maxCharacters: maxTitleCharacters })
  title!: string | null;

  @Field(() => Float, { description: "Where it begins, in seconds from the start of the recording." })
  startSeconds!: number;

  @Field(() => Float, { description: "Where it ends, in seconds from the start of the recording." })
  endSeconds!: number;
}

@ObjectType("ProductionTrack", { description: "The name of a channel of the WAV." })
class TrackType implements Track {
  @Field(() => Int, { description: "Position of the channel in the WAV, from 1." })
  channel!: number;

  @Field(() => String, { description: "Its name: `Boom`, `Lav 1` ..." })
  @Facts({ maxCharacters: maxNameCharacters })
  name!: string;
}

@ObjectType("ProductionMetadata", {
  description:
    "What a field recorder, or the person at it, states in the `bext` and `iXML` chunks of a WAV. Each field is null if the " +
    "WAV does not state it.",
})
export class ProductionType implements ProductionFacts {
  @Field(() => String, { nullable: true, description: "Name of the production." })
  @Facts({ maxCharacters: maxNameCharacters })
  project!: string | null;

  @Field(() => String, { nullable: true, description: "Scene or slate." })
  @Facts({ maxCharacters: maxNameCharacters })
  scene!: string | null;

  @Field(() => String, { nullable: true, description: "Take." })
  @Facts({ maxCharacters: maxNameCharacters })
  take!: string | null;

  @Field(() => String, { nullable: true, description: "Tape (sound roll)." })
  @Facts({ maxCharacters: maxNameCharacters })
  tape!: string | null;

  @Field(() => String, { nullable: true, description: "Note." })
  @Facts({ maxCharacters: maxNoteCharacters })
  note!: string | null;

  @Field(() => String, {
    nullable: true,
    description: "Date and time at the recorder, without a time zone: `2026-11-23T10:32:15`.",
  })
  @Facts({ maxCharacters: "2026-11-23T10:32:15".length })
  recordedAt!: string | null;

  @Field(() => GraphQLSafeInt, {
    nullable: true,
    description:
      "Number of samples from midnight to the first sample of the WAV, at its sample rate: `TimeReference` of `bext`. " +
      "Often 0 in files of programs that know no timecode.",
  })
  timeReferenceSamples!: number | null;

  @Field(() => String, {
    nullable: true,
    description:
      "Timecode of the first sample: `10:32:15:12`, or `10:32:15;12` for drop-frame timecode. Null if the WAV does not state " +
      "`timecodeRate`.",
  })
  @Facts({ maxCharacters: "10:32:15:120".length })
  timecode!: string | null;

  @Field(() => String, {
    nullable: true,
    description: "Frames per second of the timecode, as a fraction: `24000/1001`, `25/1`.",
  })
  @Facts({ maxCharacters: "120000/1001".length + 2 })
  timecodeRate!: string | null;

  @Field(() => [TrackType], { description: "The channels that have names, in the order of the WAV." })
  @Facts({ listLength: () => maxTracks })
  tracks!: readonly Track[];
}
