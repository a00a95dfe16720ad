import { parseArgs } from "node:util";

/** The text of --help. */
export const help = `The operator's command for managing users. You can use it while the service is running.

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

/** The command line is wrong. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** The options of all commands, as they were given. */
export type OptionValues = ReturnType<typeof readArguments>["values"];

/**
 * Reads the command line.
 * @throws {UsageError} if an option is unknown or has no value
 */
export function readArguments(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        help: { type: "boolean", short: "h" },
        json: { type: "boolean" },
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
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/**
 * Reads the id of a user.
 * @throws {UsageError} if it is missing or not the number of a user
 */
export function userId(given: string | undefined): number {
  if (given === undefined) throw new UsageError("Give the user's number, as list shows it.");
  return wholeNumber("The user's id", given, 1, 2 ** 31 - 1);
}

/**
 * Makes sure that a command without an argument got none.
 * @throws {UsageError} if it got one
 */
export function refuseArgument(argument: string | undefined): void {
  if (argument !== undefined) throw new UsageError(`Unexpected argument: ${argument}.`);
}

/**
 * A limit of a quota: null is the default of the settings, 0 is no limit, and undefined was not given.
 * @throws {UsageError} if it is something else
 */
export function quotaValue(option: string, given: string | undefined, max: number): number | null | undefined {
  if (given === undefined) return undefined;
  if (given === "default") return null;
  return given === "none" ? 0 : wholeNumber(option, given, 1, max, ", none or default");
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
