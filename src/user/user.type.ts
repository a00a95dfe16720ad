import { GraphQLDateTime, GraphQLUUID } from "../graphql/scalars.ts";
import { Field, ID, ObjectType, registerEnumType } from "type-graphql";
import { tokenScopes, type TokenScope } from "../caller/caller.ts";
import { Facts } from "../graphql/field-facts.ts";
import { Node } from "../graphql/node.type.ts";
import { maxTokens } from "./access-tokens.ts";
import { maxNameLength } from "./create-user.ts";

/** Scopes of tokens. */
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
    READ: { description: "Reads all recordings, links and the usage of storage. Opens private links." },
    WRITE: {
      description:
        "Uploads, renames, shares and deletes recordings. Includes UPLOAD. Selecting `links`, `records` or " +
        "`usage` in the result of a mutation also needs READ.",
    },
    UPLOAD: {
      description:
        "For kiosks and apps: uploads, and reads only the recordings that the same token uploaded, through " +
        "`record`, `node` and their links, private or not. It cannot list, change or delete anything.",
    },
    MANAGE: {
      description:
        "Manages the user and the tokens: `createToken`, `revokeToken`, `tokens`, `updateUser`, `deleteUser`. " +
        "Keep such a token to yourself.",
    },
  },
});

@ObjectType("User", {
  implements: Node,
  description: "An account that owns recordings. Its id is a small integer and is part of the links.",
})
export class UserType extends Node {
  @Field(() => String, { description: "The user's name, without leading or trailing white space." })
  @Facts({ maxCharacters: maxNameLength })
  name!: string;

  @Field(() => GraphQLDateTime, { description: "When the user was created." })
  createdAt!: Date;
}

/** Converts a user to its API type. */
export function toUserType(user: { id: number; name: string; createdAt: Date }): UserType {
  return Object.assign(new UserType(), { id: String(user.id), name: user.name, createdAt: user.createdAt });
}

@ObjectType({ description: "Result of `createUser`. Only this response shows the token." })
export class CreateUserPayload {
  @Field(() => UserType, { description: "The new user." })
  user!: UserType;

  @Field(() => GraphQLUUID, {
    description:
      "The token, a secret that authenticates the user. Keep it: it is stored only as a hash and never shown " +
      "again.",
  })
  token!: string;
}

@ObjectType("AccessToken", { description: "A token of a user, without its secret." })
export class AccessTokenType {
  @Field(() => ID, { description: "Identifies the token, for example for `revokeToken`. It is not the secret." })
  id!: string;

  @Field(() => String, { description: "A label chosen by the user. The token from `createUser` is named `first`." })
  @Facts({ maxCharacters: maxNameLength })
  name!: string;

  @Field(() => GraphQLDateTime, { description: "When the token was created." })
  createdAt!: Date;

  @Field(() => GraphQLDateTime, {
    nullable: true,
    description: "When the token was last used, to the minute. Null if it has not been used yet.",
  })
  lastUsedAt!: Date | null;

  @Field(() => GraphQLDateTime, { nullable: true, description: "When the token expires. Null if it never does." })
  expiresAt!: Date | null;

  @Field(() => [TokenScopeEnum], { description: "What the token allows." })
  @Facts({ listLength: () => tokenScopes.length })
  scopes!: readonly TokenScope[];

  @Field(() => ID, {
    nullable: true,
    description:
      "Id of the token with which this one was created and with which it is revoked. Null for the token from " +
      "`createUser` and for tokens created by the operator.",
  })
  parentId!: string | null;
}

@ObjectType({ description: "Result of `createToken`. Only this response shows the secret." })
export class CreateTokenPayload {
  @Field(() => GraphQLUUID, {
    description: "The secret, for `Authorization: Bearer`. Keep it: it is stored only as a hash and never shown again.",
  })
  token!: string;

  @Field(() => AccessTokenType, { description: "The token without its secret, as `me.tokens` lists it." })
  accessToken!: AccessTokenType;

  @Field(() => UserType, { description: "The user of the token." })
  user!: UserType;
}

@ObjectType({ description: "Result of `renewToken`. Only this response shows the new secret." })
export class RenewTokenPayload {
  @Field(() => GraphQLUUID, {
    description: "The new secret, for `Authorization: Bearer`. Its first use ends the one before.",
  })
  token!: string;

  @Field(() => AccessTokenType, { description: "The token without its secret, as `me.tokens` lists it." })
  accessToken!: AccessTokenType;

  @Field(() => UserType, { description: "The user of the token." })
  user!: UserType;
}

@ObjectType({ description: "Result of `revokeToken`." })
export class RevokeTokenPayload {
  @Field(() => ID, { description: "Id of the token that was asked for." })
  revokedId!: string;

  @Field(() => [ID], {
    description: "Ids of all tokens that were revoked: the one asked for and its descendants.",
  })
  @Facts({ listLength: () => maxTokens })
  revokedIds!: readonly string[];

  @Field(() => UserType, { description: "The user of the tokens." })
  user!: UserType;
}

@ObjectType({ description: "Result of `updateUser`." })
export class UpdateUserPayload {
  @Field(() => UserType, { description: "The user with the new name." })
  user!: UserType;
}

@ObjectType({ description: "Result of `deleteUser`." })
export class DeleteUserPayload {
  @Field(() => ID, { description: "Id of the deleted user." })
  deletedId!: string;
}
