import { Field, ID, ObjectType } from "type-graphql";
import { GraphQLDateTime, GraphQLUUID } from "../graphql/scalars.ts";
import { UserType } from "../user/user.type.ts";

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
