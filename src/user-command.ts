import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { deleteSomeRecords } from "./library/delete-records.ts";
import { findUsages, type Usage } from "./upload/quota.ts";
import {
  openDatabaseOf,
  refuseArgument,
  runProgram,
  UsageError,
  wholeNumber,
  type Given,
  type Outcome,
} from "./operator-command.ts";
import { createToken } from "./user/access-tokens.ts";
import {
  createInvitation,
  findUser,
  listUsers,
  onBehalfOf,
  revokeInvitations,
  revokeAllTokens,
  setDisabled,
  setQuota,
  type KnownUser,
} from "./user/administer-users.ts";
import { deleteUser } from "./user/change-user.ts";
import { checkedUserName, createUser } from "./user/create-user.ts";
import { noCharge } from "./limits/write-allowance.ts";
import { firstTokenScopes } from "./user/user.entity.ts";

/** The text of --help. */
const help = `The operator's command for managing users. You can use it while the service is running.

  npm run user -- <command>                 (in the image: node dist/src/user-command.js <command>)

  create <name>                 creates a user and shows the token, only this once
  list [--name <part>]          lists the newest users; [--limit 50] [--before <id>]
  invite [--days 7]             creates an invitation code for one user and shows it, only this once
  invite --revoke               revokes all codes that have not been used
  disable <id>                  refuses the user's tokens and stops serving the recordings; nothing is deleted
  enable <id>                   undoes disable
  token <id> [--name <name>]    creates a token for a user who lost theirs and shows it, only this once
        [--revoke-others]       also revokes all other tokens, for example after a theft
  quota <id>                    shows what the user stores and may store
        [--bytes <n>] [--seconds <n>] [--records <n>]   changes the quota: a number, none, or default (as in the settings)
  delete <id> --yes             deletes the user with all recordings, links and tokens

  --json    prints JSON, for programs (with npm run --silent)
  --help    prints this text

<id> is the user's number, as list and links show it. DATABASE_URL or DATA_DIR select the database, as for the service.
Exit codes: 0 done; 1 not done, with the reason on standard error; 2 the command was not understood.
`;

/** The options of all commands. */
const options = {
  name: { type: "string" },
  limit: { type: "string" },
  before: { type: "string" },
  days: { type: "string" },
  revoke: { type: "boolean" },
  "revoke-others": { type: "boolean" },
  bytes: { type: "string" },
  seconds: { type: "string" },
  records: { type: "string" },
  yes: { type: "boolean" },
} as const;

type Work = Given<typeof options>;

async function create(em: SqlEntityManager, { argument }: Work): Promise<Outcome> {
  if (argument === undefined) throw new UsageError("create needs the name of the user.");
  const { user, token } = await createUser(em, argument);
  return {
    lines: [`User ${user.id}: ${user.name}`, `Token (shown only now): ${token}`],
    json: { id: user.id, name: user.name, createdAt: user.createdAt, token },
  };
}

async function list(em: SqlEntityManager, { config, argument, values }: Work): Promise<Outcome> {
  refuseArgument(argument);
  const limit = wholeNumber("--limit", values.limit ?? "50", 1, 10_000);
  const beforeId = values.before === undefined ? undefined : userId(values.before);
  const users = await listUsers(em, { name: values.name, beforeId, limit });
  const usages = await findUsages(
    em,
    users.map(({ id }) => id),
    config.quota,
  );
  const rows = users.map((user) => [
    String(user.id),
    user.createdAt.toISOString().slice(0, 16).replace("T", " "),
    String(usages.get(user.id)?.records ?? 0),
    String(usages.get(user.id)?.bytes ?? 0),
    stateOf(user),
    user.name,
  ]);
  return {
    lines:
      users.length === 0 ? ["No users."] : columns([["id", "created (UTC)", "records", "bytes", "", "name"], ...rows]),
    json: users.map((user) => toJson(user, usages.get(user.id))),
  };
}

async function invite(em: SqlEntityManager, { argument, values }: Work): Promise<Outcome> {
  refuseArgument(argument);
  if (values.revoke) {
    const revoked = await revokeInvitations(em);
    return { lines: [`Revoked invitations: ${revoked}`], json: { revoked } };
  }
  const days = wholeNumber("--days", values.days ?? "7", 1, 366);
  const expiresAt = new Date(Date.now() + days * 86_400_000);
  const code = await createInvitation(em, expiresAt);
  return {
    lines: [
      `Invitation (shown only now), for one user, valid until ${expiresAt.toISOString()}: ${code}`,
      `Use it like this: mutation { createUser(name: "...", invite: "${code}") { user { id } token } }`,
    ],
    json: { code, expiresAt },
  };
}

async function disable(em: SqlEntityManager, { argument }: Work, disabled: boolean): Promise<Outcome> {
  const user = await setDisabled(em, userId(argument), disabled);
  return { lines: [`User ${user.id} (${user.name}) is ${disabled ? "disabled" : "enabled"}.`], json: toJson(user) };
}

async function giveToken(em: SqlEntityManager, { argument, values }: Work): Promise<Outcome> {
  const user = await findUser(em, userId(argument));
  const request = {
    name: checkedUserName(values.name ?? "from the operator"),
    expiresAt: null,
    scopes: [...firstTokenScopes],
  };
  const revoked = values["revoke-others"] ? await revokeAllTokens(em, user.id) : 0;
  const { token } = await createToken(em, onBehalfOf(user), request, noCharge);
  return {
    lines: [
      `User ${user.id}: ${user.name}`,
      ...(values["revoke-others"] ? [`Revoked tokens: ${revoked}`] : []),
      `Token (shown only now): ${token}`,
    ],
    json: { id: user.id, name: user.name, token, revoked },
  };
}

async function quota(em: SqlEntityManager, { config, argument, values }: Work): Promise<Outcome> {
  const id = userId(argument);
  const change = {
    bytes: quotaValue("--bytes", values.bytes, 2 ** 50),
    seconds: quotaValue("--seconds", values.seconds, 2 ** 40),
    records: quotaValue("--records", values.records, 2 ** 31 - 1),
  };
  const isChange = Object.values(change).some((value) => value !== undefined);
  const user = isChange ? await setQuota(em, id, change) : await findUser(em, id);
  const usage = (await findUsages(em, [id], config.quota)).get(id);
  const lines = (["bytes", "seconds", "records"] as const).map((what) => {
    const most = usage?.limits[what] ?? 0;
    return `${what}: ${usage?.[what] ?? 0} of ${most === 0 ? "no limit" : most}`;
  });
  return { lines: [`User ${user.id}: ${user.name}`, ...lines], json: toJson(user, usage) };
}

async function remove(em: SqlEntityManager, { argument, values }: Work): Promise<Outcome> {
  const id = userId(argument);
  const user = await findUser(em, id);
  if (!values.yes) {
    throw new UsageError(`This deletes user ${id} (${user.name}) with all recordings. Confirm it with --yes.`);
  }
  await deleteUser(em, onBehalfOf(user), user.name, deleteSomeRecords);
  return { lines: [`User ${id} (${user.name}) is deleted.`], json: { deletedId: id } };
}

function stateOf({ disabledAt, isVouchedFor }: KnownUser): string {
  return disabledAt ? "disabled" : isVouchedFor ? "vouched for" : "";
}

function toJson({ id, name, createdAt, isVouchedFor, disabledAt }: KnownUser, usage?: Usage): unknown {
  const limit = (most: number) => (most === 0 ? null : most);
  const { bytes = 0, seconds = 0, records = 0, limits } = usage ?? {};
  return {
    id,
    name,
    createdAt,
    isVouchedFor,
    disabledAt,
    ...(limits && {
      usage: { bytes, seconds, records },
      limits: { bytes: limit(limits.bytes), seconds: limit(limits.seconds), records: limit(limits.records) },
    }),
  };
}

/** Aligns the texts in columns. The last column is not padded. */
function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, at) => Math.max(...rows.map((row) => row[at]?.length ?? 0)));
  return rows.map((row) => row.map((text, at) => (at === row.length - 1 ? text : text.padEnd(widths[at]!))).join("  "));
}

/**
 * Reads the id of a user.
 * @throws {UsageError} if it is missing or not the number of a user
 */
function userId(given: string | undefined): number {
  if (given === undefined) throw new UsageError("Give the user's number, as list shows it.");
  return wholeNumber("The user's id", given, 1, 2 ** 31 - 1);
}

/**
 * A limit of a quota: null is the default of the settings, 0 is no limit, and undefined was not given.
 * @throws {UsageError} if it is something else
 */
function quotaValue(option: string, given: string | undefined, max: number): number | null | undefined {
  if (given === undefined) return undefined;
  if (given === "default") return null;
  return given === "none" ? 0 : wholeNumber(option, given, 1, max, ", none or default");
}

await runProgram({
  name: "npm run user",
  help,
  options,
  commands: {
    create: { options: [], run: create },
    list: { options: ["name", "limit", "before"], run: list },
    invite: { options: ["days", "revoke"], run: invite },
    disable: { options: [], run: async (em, work) => await disable(em, work, true) },
    enable: { options: [], run: async (em, work) => await disable(em, work, false) },
    token: { options: ["name", "revoke-others"], run: giveToken },
    quota: { options: ["bytes", "seconds", "records"], run: quota },
    delete: { options: ["yes"], run: remove },
  },
  open: async (config, resources): Promise<SqlEntityManager> =>
    resources.use(await openDatabaseOf(config, resources)).em,
});
