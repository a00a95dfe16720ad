import { defineEntity, p } from "@mikro-orm/core";
import type { TablesOf } from "../database/query-builder.ts";
import { tokenScopes, type TokenScope } from "../caller/caller.ts";

/** Scopes of a user's first token, which allow everything. */
export const firstTokenScopes = ["READ", "WRITE", "MANAGE"] as const satisfies TokenScope[];

const UserSchema = defineEntity({
  name: "User",
  tableName: "app_user",
  properties: {
    id: p.integer().primary().autoincrement(),
    name: p.text(),
    createdAt: p.datetime().defaultRaw("now()"),
    /** The user's quota; null: default from the settings, 0: unlimited. */
    quotaBytes: p.bigint("number").nullable(),
    quotaSeconds: p.bigint("number").nullable(),
    quotaRecords: p.integer().nullable(),
    /**
     * Whether the operator created, invited or gave a quota to the user, who then never counts as new in
     * `write-allowance.ts`.
     */
    isVouchedFor: p.boolean().default(false),
    /** When the user was disabled, so that tokens are refused and recordings not served; null if not disabled. */
    disabledAt: p.datetime().nullable(),
    /** The identity provider's issuer and subject; null for a user who was created here. */
    issuer: p.text().nullable(),
    subject: p.text().nullable(),
    /**
     * Signs the play links of the user's recordings: 122 random bits, which the database makes. Null for a user from
     * before there were play links, until the first one. See `link/play-link.ts`.
     */
    playKey: p.uuid().nullable().defaultRaw("gen_random_uuid()").lazy(),
  },
  uniques: [{ name: "app_user_identity", properties: ["issuer", "subject"] }],
  checks: [
    {
      name: "app_user_quotas",
      expression: "least(quota_bytes, quota_seconds, quota_records) >= 0",
    },
    { name: "app_user_name_length", expression: "(length(name) >= 1) and (length(name) <= 100)" },
  ],
});

/** A user, who owns recordings. */
export class User extends UserSchema.class {}
UserSchema.setClass(User);

const AccessTokenSchema = defineEntity({
  name: "AccessToken",
  tableName: "access_token",
  properties: {
    id: p.uuid().primary().defaultRaw("gen_random_uuid()"),
    owner: () => p.manyToOne(User).deleteRule("cascade").index(),
    /** SHA-256 of the token. A token has 122 random bits, so a plain hash cannot be reversed by trying. */
    sha256: p.blob().unique(),
    /** SHA-256 of the secret that replaces it when it is used for the first time; see `renewToken`. */
    nextSha256: p.blob().nullable().unique(),
    name: p.text(),
    createdAt: p.datetime().defaultRaw("now()"),
    scopes: p
      .enum(tokenScopes)
      .array()
      .default([...firstTokenScopes]),
    /** The token that created it and with which it is revoked; null for the first one and those from the operator. */
    parent: () => p.manyToOne(AccessToken).deleteRule("cascade").nullable().index(),
    /** When the token expires; null if never. */
    expiresAt: p.datetime().nullable(),
    /** To the minute; see `authenticate-user.ts`. */
    lastUsedAt: p.datetime().nullable(),
  },
});

/** A secret that authenticates a user. Only its hash is stored. */
export class AccessToken extends AccessTokenSchema.class {}
AccessTokenSchema.setClass(AccessToken);

const InvitationSchema = defineEntity({
  name: "Invitation",
  tableName: "invitation",
  properties: {
    /** SHA-256 of the code, which has 122 random bits. The row is deleted when a user is created with it. */
    sha256: p.blob().primary(),
    createdAt: p.datetime().defaultRaw("now()"),
    expiresAt: p.datetime(),
  },
});

/** An invitation, with which one user can be created. */
export class Invitation extends InvitationSchema.class {}
InvitationSchema.setClass(Invitation);

/** The tables of users and their tokens, for the query builder. */
export type UserTables = TablesOf<typeof UserSchema | typeof AccessTokenSchema | typeof InvitationSchema>;
