import { parseArgs, type ParseArgsOptionsConfig } from "node:util";
import { openDatabase, type Database } from "./database/database.ts";
import { DataFolderInUseError } from "./database/embedded/embedded-postgres-error.ts";
import { startEmbeddedPostgres, urlOfRunningPostgres } from "./database/embedded/embedded-postgres.ts";
import { ServiceError } from "./errors/errors.ts";
import { tables } from "./orm-options.ts";
import { ConfigError, type Config } from "./settings/config.ts";
import { loadConfig } from "./settings/load-config.ts";
import { createLogger } from "./telemetry/logger.ts";

/** The command line is wrong. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** The output of a command: lines for people, or JSON for programs. */
export interface Outcome {
  readonly lines: readonly string[];
  readonly json: unknown;
  /** Whether the command has found damage. Then its exit code is 1. */
  readonly isDamaged?: boolean;
}

/** The options of all commands, as they were given. */
type OptionValues<Options extends ParseArgsOptionsConfig> = ReturnType<
  typeof parseArgs<{ readonly options: Options; readonly allowPositionals: true }>
>["values"];

/** What a command gets. */
export interface Given<Options extends ParseArgsOptionsConfig> {
  readonly config: Config;
  /** The argument after the command's name. */
  readonly argument: string | undefined;
  readonly values: OptionValues<Options>;
}

/** A program of the operator, with several commands. */
interface OperatorProgram<Options extends ParseArgsOptionsConfig, Resources> {
  /** How it is called, for the message. */
  readonly name: string;
  /** The text of --help. */
  readonly help: string;
  readonly options: Options;
  /** The commands with the options that each one accepts. */
  readonly commands: Readonly<
    Record<
      string,
      {
        readonly options: readonly (keyof Options)[];
        readonly run: (resources: Resources, given: Given<Options>) => Promise<Outcome>;
      }
    >
  >;
  /** Opens what the commands work on. */
  readonly open: (config: Config, resources: AsyncDisposableStack) => Promise<Resources>;
}

/** The options of every program. */
const commonOptions = { help: { type: "boolean", short: "h" }, json: { type: "boolean" } } as const;

/**
 * Runs the command that the command line names. What goes wrong is said in one sentence on standard error, and by the exit
 * code.
 */
export async function runProgram<const Options extends ParseArgsOptionsConfig, Resources>(
  program: OperatorProgram<Options, Resources>,
): Promise<void> {
  try {
    await runNamed(program);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    // Clients must not see the reason, such as an answer of S3. The operator needs it.
    const cause = error instanceof ServiceError && error.cause instanceof Error ? ` (${error.cause.message})` : "";
    const sentence = `${message}${cause}`;
    const isUsage = error instanceof UsageError;
    const isExpected = isUsage || error instanceof ServiceError || error instanceof ConfigError;
    process.stderr.write(`${sentence}${isUsage ? `\nFor help, run: ${program.name} -- --help` : ""}\n`);
    if (!isExpected && error instanceof Error && process.env.LOG_LEVEL === "debug") {
      process.stderr.write(`${error.stack}\n`);
    }
    process.exitCode = isUsage ? 2 : 1;
  }
}

async function runNamed<Options extends ParseArgsOptionsConfig, Resources>({
  help,
  options,
  commands,
  open,
}: OperatorProgram<Options, Resources>): Promise<void> {
  const { values, positionals } = readArguments({ ...commonOptions, ...options });
  const common: { readonly help?: unknown; readonly json?: unknown } = values;
  const [name, argument, ...more] = positionals;
  if (common.help || name === undefined || name === "help") {
    process.stdout.write(help);
    if (!common.help && name === undefined) process.exitCode = 2;
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
  const { lines, json, isDamaged } = await command.run(await open(config, resources), { config, argument, values });
  process.stdout.write(common.json ? `${JSON.stringify(json, undefined, 2)}\n` : `${lines.join("\n")}\n`);
  if (isDamaged) process.exitCode = 1;
}

function readArguments<Options extends ParseArgsOptionsConfig>(options: Options) {
  try {
    return parseArgs({ args: process.argv.slice(2), allowPositionals: true, options });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/**
 * Makes sure that a command without an argument got none.
 * @throws {UsageError} if it got one
 */
export function refuseArgument(argument: string | undefined): void {
  if (argument !== undefined) throw new UsageError(`Unexpected argument: ${argument}.`);
}

/**
 * Reads a number.
 * @param others what else is allowed, for the message
 * @throws {UsageError} if it is not a whole number in this range
 */
export function wholeNumber(what: string, given: string, min: number, max: number, others = ""): number {
  const value = /^\d{1,16}$/.test(given) ? Number(given) : NaN;
  if (value >= min && value <= max) return value;
  throw new UsageError(`${what} must be a whole number from ${min} to ${max}${others}.`);
}

/** Opens the database of the service, also while the service runs. */
export async function openDatabaseOf(config: Config, resources: AsyncDisposableStack): Promise<Database> {
  const url = await databaseUrl(config, resources);
  const options = { poolSize: 4, timeoutSeconds: config.databaseTimeoutSeconds, tables };
  return await openDatabase(url, options, createLogger({ logLevel: "silent" }));
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
