import { Field, ID, ObjectType } from "type-graphql";
import type { Quality } from "../audio/mp3/quality.ts";
import { Facts } from "../graphql/field-facts.ts";
import { GraphQLDateTime, GraphQLSafeInt, GraphQLUUID } from "../graphql/scalars.ts";
import { maxTitleLength } from "../record/record-title.ts";
import { QualityEnum, VisibilityEnum } from "../record/record.type.ts";
import type { Visibility } from "../settings/visibility.ts";
import { UserType } from "../user/user.type.ts";

@ObjectType("UploadTicket", { description: "A ticket for one upload, without its secret." })
export class UploadTicketType {
  @Field(() => ID, { description: "The id, for `revokeUploadTicket`. It is not the secret." })
  id!: string;

  @Field(() => ID, {
    nullable: true,
    description:
      "Id of the token that created the ticket and with which it is revoked. Null if it was created with a token of an identity provider.",
  })
  tokenId!: string | null;

  @Field(() => GraphQLDateTime, { description: "When the ticket was created." })
  createdAt!: Date;

  @Field(() => GraphQLDateTime, { description: "When the ticket expires." })
  expiresAt!: Date;

  @Field(() => String, {
    nullable: true,
    description: "Title of the recording. Null if the upload may give one.",
  })
  @Facts({ maxCharacters: maxTitleLength })
  title!: string | null;

  @Field(() => QualityEnum, { nullable: true, description: "Quality of the MP3. Null if the upload may choose one." })
  quality!: Quality | null;

  @Field(() => VisibilityEnum, {
    nullable: true,
    description: "Who can open the recording by its `url`. Null if the upload may choose.",
  })
  visibility!: Visibility | null;

  @Field(() => GraphQLSafeInt, {
    nullable: true,
    description: "Maximum size of the file, in bytes. Null if it is that of the service.",
  })
  maxBytes!: number | null;
}

@ObjectType({ description: "Result of `createUploadTicket`. Only this response shows the ticket." })
export class CreateUploadTicketPayload {
  @Field(() => GraphQLUUID, {
    description: "The ticket, a secret for the argument `ticket` of `uploadRecord`. It is stored only as a hash.",
  })
  ticket!: string;

  @Field(() => ID, { description: "Id of the ticket, for `revokeUploadTicket`. It is not the secret." })
  ticketId!: string;

  @Field(() => GraphQLDateTime, { description: "When the ticket expires." })
  expiresAt!: Date;

  @Field(() => UserType, { description: "The user who will own the recording." })
  user!: UserType;
}

@ObjectType({ description: "Result of `revokeUploadTicket`." })
export class RevokeUploadTicketPayload {
  @Field(() => ID, { description: "Id of the revoked ticket." })
  revokedId!: string;

  @Field(() => UserType, { description: "The user of the ticket." })
  user!: UserType;
}
