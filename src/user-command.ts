import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { ConfigError, type Config } from "./settings/config.ts";
import { openDatabase } from "./database/database.ts";
import { DataFolderInUseError } from "./database/embedded/embedded-postgres-error.ts";
import { startEmbeddedPostgres, urlOfRunningPostgres } from "./database/embedded/embedded-postgres.ts";
import { ServiceError } from "./errors/errors.ts";
import { createLogger } from "./telemetry/logger.ts";
import { deleteSomeRecords } from "./library/delete-records.ts";
import { findUsages, type Usage } from "./upload/quota.ts";
import { tables } from "./orm-options.ts";
import { loadConfig } from "./settings/load-config.ts";
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
import {
  help,
  quotaValue,
  readArguments,
  refuseArgument,
  UsageError,
  userId,
  wholeNumber,
  type OptionValues,
} from "./user-command-line.ts";

/** The output of a command: lines for people, or JSON for programs. */
interface Outcome {
  readonly lines: readonly string[];
  readonly json: unknown;
}

/** The input of a command. */
interface Work {
  readonly em: SqlEntityManager;
  readonly config: Config;
  /** The argument after the command's name. */
  readonly argument: string | undefined;
  readonly values: OptionValues;
}

/** The commands with the options that each one accepts. */
const commands: Readonly<
  Record<string, { readonly options: readonly string[]; readonly run: (work: Work) => Promise<Outcome> }>
> = {
  create: { options: [], run: create },
  list: { options: ["name", "limit", "before"], run: list },
  invite: { options: ["days", "revoke"], run: invite },
  disable: { options: [], run: async (work) => await disable(work, true) },
  enable: { options: [], run: async (work) => await disable(work, false) },
  token: { options: ["name", "revoke-others"], run: giveToken },
  quota: { options: ["bytes", "seconds", "records"], run: quota },
  delete: { options: ["yes"], run: remove },
};

async function create({ em, argument }: Work): Promise<Outcome> {
  if (argument === undefined) throw new UsageError("create needs the name of the user.");
  const { user, token } = await createUser(em, argument);
  return {
    lines: [`User ${user.id}: ${user.name}`, `Token (shown only now): ${token}`],
    json: { id: user.id, name: user.name, createdAt: user.createdAt, token },
  };
}

async function list({ em, config, argument, values }: Work): Promise<Outcome> {
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

async function invite({ em, argument, values }: Work): Promise<Outcome> {
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

async function disable({ em, argument }: Work, disabled: boolean): Promise<Outcome> {
  const user = await setDisabled(em, userId(argument), disabled);
  return { lines: [`User ${user.id} (${user.name}) is ${disabled ? "disabled" : "enabled"}.`], json: toJson(user) };
}

async function giveToken({ em, argument, values }: Work): Promise<Outcome> {
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

async function quota({ em, config, argument, values }: Work): Promise<Outcome> {
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

async function remove({ em, argument, values }: Work): Promise<Outcome> {
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

/** The address of the service's database: its running PostgreSQL, or one that this command starts for itself. */
async function databaseUrl(config: Config, resources: AsyncDisposableStack): Promise<string> {
  if (config.databaseUrl !== undefined) return config.databaseUrl;
  const say = (message: string) => void process.stderr.write(`${message}\n`);
  const log = { debug: () => {}, info: say, warn: say, error: say };
  try {
    return resources.use(await startEmbeddedPostgres({ dataDir: config.dataDir, log })).url;
  } catch (error) {
    if (error instanceof DataFolderInUseError) return await urlOfRunningPostgres(error.path);
    throw error;
  }
}

async function main(): Promise<void> {
  const { values, positionals } = readArguments(process.argv.slice(2));
  const [name, argument, ...more] = positionals;
  if (values.help || name === undefined || name === "help") {
    process.stdout.write(help);
    if (!values.help && name === undefined) process.exitCode = 2;
    return;
  }
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (!command) throw new UsageError(`Unknown command: ${name}.`);
  const [first] = more;
  if (first !== undefined) throw new UsageError(`Unexpected argument: ${first}. Put a name with spaces in quotes.`);
  const stray = Object.keys(values).find((option) => !["json", ...command.options].includes(option));
  if (stray !== undefined) throw new UsageError(`${name} does not support --${stray}.`);

  const config = await loadConfig(process.env);
  await using resources = new AsyncDisposableStack();
  const url = await databaseUrl(config, resources);
  const options = { poolSize: 2, timeoutSeconds: config.databaseTimeoutSeconds, tables };
  const { em } = resources.use(await openDatabase(url, options, createLogger({ logLevel: "silent" })));
  const { lines, json } = await command.run({ em, config, argument, values });
  process.stdout.write(values.json ? `${JSON.stringify(json, undefined, 2)}\n` : `${lines.join("\n")}\n`);
}

try {
  await main();
} catch (error) {
  const sentence = error instanceof Error ? error.message : String(error);
  const isUsage = error instanceof UsageError;
  const isExpected = isUsage || error instanceof ServiceError || error instanceof ConfigError;
  process.stderr.write(`${sentence}${isUsage ? "\nFor help, run: npm run user -- --help" : ""}\n`);
  if (!isExpected && error instanceof Error && process.env.LOG_LEVEL === "debug") {
    process.stderr.write(`${error.stack}\n`);
  }
  process.exitCode = isUsage ? 2 : 1;
}
