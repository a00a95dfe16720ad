import { GraphQLDateTime, GraphQLUUID } from "graphql-scalars";
import { Field, ObjectType } from "type-graphql";
import { Node } from "../graphql/node.type.ts";

@ObjectType("User", {
  implements: Node,
  description: "Somebody who owns recordings. The id is a short number; it stands in the links.",
})
export class UserType extends Node {
  @Field(() => String, { description: "The name given to createUser, without white space around it." })
  name!: string;

  @Field(() => GraphQLDateTime, { description: "When the user was created." })
  createdAt!: Date;
}

/** The user as the API shows it. */
export function toUserType(user: { id: number; name: string; createdAt: Date }): UserType {
  return Object.assign(new UserType(), { id: String(user.id), name: user.name, createdAt: user.createdAt });
}

@ObjectType({ description: "A new user, and the only time that the token is shown." })
export class CreateUserPayload {
  @Field(() => UserType, { description: "The new user." })
  user!: UserType;

  @Field(() => GraphQLUUID, {
    description: "The secret that speaks for this user. Keep it: it is stored as a hash only and never shown again.",
  })
  token!: string;
}
