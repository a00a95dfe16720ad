import { defineEntity, p } from "@mikro-orm/core";
import type { TablesOf } from "../database/query-builder.ts";
import { tokenScopes, type TokenScope } from "../caller/caller.ts";

/** What a user's first token allows: everything. */
export const firstTokenScopes = ["READ", "WRITE", "MANAGE"] as const satisfies TokenScope[];

const UserSchema = defineEntity({
  name: "User",
  tableName: "app_user",
  properties: {
    id: p.integer().primary().autoincrement(),
    name: p.text(),
    createdAt: p.datetime().defaultRaw("now()"),
    /** What the user's recordings may take up; null: as the settings say, 0: unlimited. */
    quotaBytes: p.bigint("number").nullable(),
    quotaSeconds: p.bigint("number").nullable(),
    quotaRecords: p.integer().nullable(),
    /** Made by the operator, or invited: not one of the strangers that `write-allowance.ts` bounds. */
    isVouchedFor: p.boolean().default(false),
    /** Since then the user's tokens are refused and the recordings not served; null: neither. */
    disabledAt: p.datetime().nullable(),
  },
  checks: [
    {
      name: "app_user_quotas",
      expression: "least(quota_bytes, quota_seconds, quota_records) >= 0",
    },
    { name: "app_user_name_length", expression: "(length(name) >= 1) and (length(name) <= 100)" },
  ],
});

/** Somebody who owns recordings. */
export class User extends UserSchema.class {}
UserSchema.setClass(User);

const AccessTokenSchema = defineEntity({
  name: "AccessToken",
  tableName: "access_token",
  properties: {
    id: p.uuid().primary().defaultRaw("gen_random_uuid()"),
    owner: () => p.manyToOne(User).deleteRule("cascade").index(),
    /** SHA-256 of the token. A token has 122 random bits, so a plain hash cannot be searched. */
    sha256: p.blob().unique(),
    name: p.text(),
    createdAt: p.datetime().defaultRaw("now()"),
    scopes: p
      .enum(tokenScopes)
      .array()
      .default([...firstTokenScopes]),
    /** The token that made it, with which it goes; null: the first, or one that the operator made. */
    parent: () => p.manyToOne(AccessToken).deleteRule("cascade").nullable().index(),
    /** From then on it is not valid; null: it does not expire. */
    expiresAt: p.datetime().nullable(),
    /** To the minute; see `authenticate-user.ts`. */
    lastUsedAt: p.datetime().nullable(),
  },
});

/** A secret that speaks for a user; only its hash is kept. */
export class AccessToken extends AccessTokenSchema.class {}
AccessTokenSchema.setClass(AccessToken);

const InvitationSchema = defineEntity({
  name: "Invitation",
  tableName: "invitation",
  properties: {
    /** SHA-256 of the code, which has 122 random bits; the row goes when a user is made with it. */
    sha256: p.blob().primary(),
    createdAt: p.datetime().defaultRaw("now()"),
    expiresAt: p.datetime(),
  },
});

/** Lets somebody make one user where not everybody may. */
export class Invitation extends InvitationSchema.class {}
InvitationSchema.setClass(Invitation);

/** Users and their tokens, for the query builder. */
export type UserTables = TablesOf<typeof UserSchema | typeof AccessTokenSchema | typeof InvitationSchema>;
