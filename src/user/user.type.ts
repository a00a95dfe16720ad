import { GraphQLDateTime, GraphQLUUID } from "graphql-scalars";
import { Field, ID, ObjectType, registerEnumType } from "type-graphql";
import { tokenScopes, type TokenScope } from "../caller/caller.ts";
import { Facts } from "../graphql/field-facts.ts";
import { Node } from "../graphql/node.type.ts";
import { maxTokens } from "./access-tokens.ts";
import { maxNameLength } from "./create-user.ts";

/** What a token can allow. */
export const TokenScopeEnum: { readonly [S in TokenScope]: S } = {
  READ: "READ",
  WRITE: "WRITE",
  UPLOAD: "UPLOAD",
  MANAGE: "MANAGE",
};
registerEnumType(TokenScopeEnum, {
  name: "TokenScope",
  description: "What a token allows.",
  valuesConfig: {
    READ: { description: "All recordings with their links, and what they take up. Private links open to it." },
    WRITE: {
      description:
        "Changes of recordings and links: upload, rename, share, delete. It includes UPLOAD. `links`, `records` and `usage` " +
        "in the answers need READ, too.",
    },
    UPLOAD: {
      description:
        "For kiosks and apps: to upload, and to read what the same token has uploaded, by `record`, `node` and its link, " +
        "private or not. No lists, no changes, no deleting.",
    },
    MANAGE: {
      description:
        "The user and the tokens: `createToken`, `revokeToken`, `tokens`, `updateUser`, `deleteUser`. Keep it to yourself.",
    },
  },
});

@ObjectType("User", {
  implements: Node,
  description: "Somebody who owns recordings. The id is a short number; it stands in the links.",
})
export class UserType extends Node {
  @Field(() => String, { description: "The name given to createUser, without white space around it." })
  @Facts({ maxCharacters: maxNameLength })
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

@ObjectType("AccessToken", { description: "A token, without its secret." })
export class AccessTokenType {
  @Field(() => ID, { description: "Names the token when it is revoked. It is not the secret." })
  id!: string;

  @Field(() => String, { description: "What its user calls it; the token of createUser is called `first`." })
  @Facts({ maxCharacters: maxNameLength })
  name!: string;

  @Field(() => GraphQLDateTime, { description: "When it was created." })
  createdAt!: Date;

  @Field(() => GraphQLDateTime, {
    nullable: true,
    description: "When it was last used, to the minute; null when it has not been used yet.",
  })
  lastUsedAt!: Date | null;

  @Field(() => GraphQLDateTime, { nullable: true, description: "When it stops to be valid; null: never." })
  expiresAt!: Date | null;

  @Field(() => [TokenScopeEnum], { description: "What it allows." })
  @Facts({ listLength: () => tokenScopes.length })
  scopes!: readonly TokenScope[];

  @Field(() => ID, {
    nullable: true,
    description:
      "The token that made it, and is revoked together with it; null for the token of createUser and those of the operator.",
  })
  parentId!: string | null;
}

@ObjectType({ description: "A new token, and the only time that its secret is shown." })
export class CreateTokenPayload {
  @Field(() => GraphQLUUID, {
    description: "The secret, for `Authorization: Bearer`. Keep it: it is stored as a hash only and never shown again.",
  })
  token!: string;

  @Field(() => AccessTokenType, { description: "What is known of it later." })
  accessToken!: AccessTokenType;
}

@ObjectType({ description: "A token that is no longer valid." })
export class RevokeTokenPayload {
  @Field(() => ID, { description: "Its id." })
  revokedId!: string;

  @Field(() => [ID], {
    description: "The ids of all that are no longer valid: its own, and those of what it had made.",
  })
  @Facts({ listLength: () => maxTokens })
  revokedIds!: readonly string[];
}

@ObjectType({ description: "A user after a change." })
export class UpdateUserPayload {
  @Field(() => UserType, { description: "The user." })
  user!: UserType;
}

@ObjectType({ description: "A user who is no longer there." })
export class DeleteUserPayload {
  @Field(() => ID, { description: "The user's id." })
  deletedId!: string;
}
