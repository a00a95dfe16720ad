import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { sql, type Kysely, type QueryCreator } from "kysely";
import { v4 as uuidv4, validate as isUuid } from "uuid";
import { hashToken } from "../caller/token.ts";
import { statement } from "../database/query-builder.ts";
import { confirmed } from "../database/transaction.ts";
import { isDuplicate } from "../errors/database-failures.ts";
import { ServiceError } from "../errors/errors.ts";
import { checkedText } from "../input/plain-text.ts";
import type { UserTables } from "./user.entity.ts";

/** A new user and the only copy of the token. */
export interface NewUser {
  readonly user: { readonly id: number; readonly name: string; readonly createdAt: Date };
  /** A random UUID; only its hash is stored. */
  readonly token: string;
}

/** Who vouches for a new user. */
interface Admission {
  /** The code of an invitation, which is consumed. */
  readonly invitation?: string | undefined;
  readonly isVouchedFor: boolean;
}

/** A user created by the operator. */
const byOperator: Admission = { isVouchedFor: true };

/** Maximum length of a user's name, in characters. */
export const maxNameLength = 100;

interface UserToInsert {
  readonly name: string;
  readonly isVouchedFor: boolean;
  readonly tokenSha256: Uint8Array;
}

const insertUser = statement((db: Kysely<UserTables>, user: UserToInsert) =>
  withToken(
    db.with("newUser", (db) =>
      db.insertInto("User").values({ name: user.name, isVouchedFor: user.isVouchedFor }).returning(["id", "createdAt"]),
    ),
    user,
  ),
);

/** A statement of its own, because planning the deletion takes as long as all of {@link insertUser}. */
const insertInvitedUser = statement(
  (db: Kysely<UserTables>, user: UserToInsert & { readonly invitationSha256: Uint8Array }) =>
    withToken(
      db
        .with("invited", (db) =>
          db
            .deleteFrom("Invitation")
            .where("sha256", "=", user.invitationSha256)
            .where("expiresAt", ">", sql<Date>`now()`)
            .returning("sha256"),
        )
        .with("newUser", (db) =>
          db
            .insertInto("User")
            .columns(["name", "isVouchedFor"])
            .expression((eb) =>
              eb
                .selectFrom("invited")
                .select((eb) => [eb.val(user.name).as("name"), eb.val(user.isVouchedFor).as("isVouchedFor")]),
            )
            .returning(["id", "createdAt"]),
        ),
      user,
    ),
);

/** Adds the first token to a statement that makes a user. */
function withToken(
  db: QueryCreator<UserTables & { newUser: { id: number; createdAt: Date } }>,
  { tokenSha256 }: UserToInsert,
) {
  return db
    .with("newToken", (db) =>
      db
        .insertInto("AccessToken")
        .columns(["ownerId", "sha256", "name"])
        .expression((eb) =>
          eb
            .selectFrom("newUser")
            .select((eb) => ["id", eb.val(tokenSha256).as("sha256"), sql.lit("first").as("name")]),
        ),
    )
    .selectFrom("newUser")
    .select(["id", "createdAt"]);
}

const findByToken = statement((db: Kysely<UserTables>, { sha256 }: { sha256: Uint8Array }) =>
  db
    .selectFrom("AccessToken")
    .innerJoin("User", "User.id", "AccessToken.ownerId")
    .select(["User.id", "User.createdAt"])
    .where("sha256", "=", sha256),
);

/**
 * Creates a user with a first token, in one statement.
 * @throws {ServiceError} BAD_USER_INPUT if the name is blank, too long or has control characters, or if the invitation
 * is unknown, used or expired
 */
export async function createUser(
  em: SqlEntityManager,
  givenName: string,
  { invitation, isVouchedFor }: Admission = byOperator,
): Promise<NewUser> {
  const name = checkedUserName(givenName);
  if (invitation !== undefined && !isUuid(invitation.trim())) throw invitationInvalid();
  const token = uuidv4();
  const tokenSha256 = hashToken(token);
  const made = { name, isVouchedFor, tokenSha256 };
  const insert = async () => {
    if (invitation === undefined) return (await insertUser(em, made))[0];
    return (await insertInvitedUser(em, { ...made, invitationSha256: hashToken(invitation.trim()) }))[0];
  };
  const user = await confirmed(insert, async () => {
    // The lost statement may still run. A second one waits for its token or its invitation, and so for its end.
    const again = await insert().catch((error: unknown) => {
      if (!isDuplicate(error)) throw error;
    });
    return again ?? (await findByToken(em, { sha256: tokenSha256 }))[0];
  });
  if (!user) throw invitationInvalid();
  return { user: { ...user, name }, token };
}

/**
 * A user's name as it is stored.
 * @throws {ServiceError} BAD_USER_INPUT if it is blank, too long or has control characters
 */
export function checkedUserName(name: string): string {
  return checkedText(name, "name", maxNameLength);
}

function invitationInvalid(): ServiceError {
  const message = "The invitation is unknown, used or expired. Ask for a new one.";
  return new ServiceError("BAD_USER_INPUT", message, { argument: "invite" });
}
