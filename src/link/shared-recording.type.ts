import { GraphQLNonNegativeFloat, GraphQLSafeInt } from "../graphql/scalars.ts";
import { Field, ObjectType } from "type-graphql";
import { Facts } from "../graphql/field-facts.ts";
import { maxTitleLength } from "../record/record-title.ts";
import { LoudnessType, type RecordType } from "../record/record.type.ts";
import type { LinkTarget } from "../record/record-url.ts";

@ObjectType("SharedRecording", {
  description: "What anyone who has a link sees of the recording that it opens. It says nothing about the owner.",
})
export class SharedRecordingType {
  /** Not API fields: where the recording is, and the link that has opened it. */
  recordId!: string;
  target!: LinkTarget;

  @Field(() => String, { description: "The title." })
  @Facts({ maxCharacters: maxTitleLength })
  title!: string;

  @Field(() => GraphQLNonNegativeFloat, { description: "Exact duration of the sound, in seconds." })
  durationSeconds!: number;

  @Field(() => GraphQLSafeInt, { description: "Size of the MP3, in bytes." })
  sizeBytes!: number;

  @Field(() => LoudnessType, {
    nullable: true,
    description: "Loudness of the recording. Null if it is silent or shorter than 0.4 s.",
  })
  loudness!: LoudnessType | null;
}

/** Converts a recording to what a link shows of it. */
export function toSharedRecording(
  { id, title, durationSeconds, sizeBytes, loudness }: RecordType,
  target: LinkTarget,
): SharedRecordingType {
  const shown = { recordId: id, target, title, durationSeconds, sizeBytes, loudness };
  return Object.assign(new SharedRecordingType(), shown);
}
