import { Field, ID, ObjectType, registerEnumType } from "type-graphql";
import { Facts } from "../graphql/field-facts.ts";
import { GraphQLDateTime, GraphQLSafeInt } from "../graphql/scalars.ts";
import { maxLinkLength } from "../record/record-url.ts";
import { UserType } from "../user/user.type.ts";
import { isLost, type ShownUpload } from "./resumable-uploads.ts";

export const UploadStateEnum = { OPEN: "OPEN", READY: "READY", FAILED: "FAILED" } as const;
export type UploadState = keyof typeof UploadStateEnum;

registerEnumType(UploadStateEnum, {
  name: "UploadState",
  description: "How far a resumable upload has got.",
  valuesConfig: {
    OPEN: { description: "Bytes of the file are still to be sent." },
    READY: { description: "The recording is stored." },
    FAILED: { description: "The file cannot become a recording. Start a new upload." },
  },
});

@ObjectType("UploadFailure", { description: "Why a resumable upload has failed." })
export class UploadFailureType {
  @Field(() => String, { description: "The error code, as in `extensions.code`." })
  @Facts({ maxCharacters: 64 })
  code!: string;

  @Field(() => String, { description: "A sentence for people." })
  @Facts({ maxCharacters: 1000 })
  message!: string;
}

@ObjectType("ResumableUpload", {
  description:
    "An upload that can be resumed after its connection was lost. Send the file to `url` with the tus protocol, version " +
    "1.0; docs/resumable.md shows how. The answer to the last request has the recording.",
})
export class ResumableUploadType {
  @Field(() => ID, { description: "Identifies the upload. Its recording gets the same id." })
  id!: string;

  secret!: string;
  ownerId!: number;
  /** The token that started it. */
  tokenId!: string | null;

  @Field(() => UploadStateEnum, { description: "How far it has got." })
  state!: UploadState;

  @Field(() => GraphQLSafeInt, {
    description: "Number of bytes of the file that need not be sent again. It is exact while no request sends bytes.",
  })
  offset!: number;

  @Field(() => GraphQLSafeInt, {
    nullable: true,
    description: "Size of the file, in bytes. Null until the client has stated it.",
  })
  sizeBytes!: number | null;

  @Field(() => GraphQLDateTime, {
    description: "When it is deleted, if it is not ready. Each request that sends bytes extends it.",
  })
  expiresAt!: Date;

  @Field(() => UploadFailureType, { nullable: true, description: "Why it has failed. Null unless `state` is FAILED." })
  failure!: UploadFailureType | null;
}

/** Converts an upload to its API type. */
export function toUploadType(upload: ShownUpload): ResumableUploadType {
  const { id, secret, ownerId, tokenId, offsetBytes, lengthBytes, expiresAt, failure, recordState } = upload;
  const state = failure || isLost(upload) ? "FAILED" : recordState === "ready" ? "READY" : "OPEN";
  const deleted = state === "FAILED" ? { code: "NOT_FOUND", message: "The recording was deleted." } : null;
  const shown = {
    id,
    secret,
    ownerId,
    tokenId,
    state,
    offset: offsetBytes,
    sizeBytes: lengthBytes,
    expiresAt,
  } as const;
  return Object.assign(new ResumableUploadType(), { ...shown, failure: failure ?? deleted });
}

/** The path of an upload's address. */
export const uploadPath = "/uploads";

/** Maximum length of an upload's address after the origin. */
export const maxUploadUrlLength = maxLinkLength;

@ObjectType({ description: "Result of `startUpload`." })
export class StartUploadPayload {
  @Field(() => ResumableUploadType, { description: "The upload. Send the file to its `url`." })
  upload!: ResumableUploadType;

  @Field(() => Boolean, { description: "False if it had been started before, with the same idempotency key." })
  created!: boolean;

  @Field(() => UserType, { nullable: true, description: "The user who uploads. Null if a ticket was given." })
  user!: UserType | null;
}

@ObjectType({ description: "Result of `cancelUpload`." })
export class CancelUploadPayload {
  @Field(() => ID, { description: "Id of the cancelled upload." })
  cancelledId!: string;

  @Field(() => UserType, { description: "The user whose upload it was." })
  user!: UserType;
}
