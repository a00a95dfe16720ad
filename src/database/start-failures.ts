import type { Client } from "pg";

/** A problem of the database that the operator can fix. The message says how. */
export class UnusableDatabaseError extends Error {
  override readonly name = "UnusableDatabaseError";
}

/** Advice by SQLSTATE, or by the code of Node or OpenSSL. `error` is the driver's message. */
const advice: readonly (readonly [pattern: RegExp, say: (client: Client, error: string) => string])[] = [
  [
    /^(ECONN|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|EHOST|ENET|ENOENT|EACCES)/,
    () => "Check that it is running and that the address is right.",
  ],
  [/^28/, ({ user }) => `It refuses the user ${user}. Check the user and the password in DATABASE_URL.`],
  [
    /^3D000$/,
    ({ database }) => `Create the database: create database "${database}" encoding 'UTF8' template template0;`,
  ],
  [
    /^(42501|3F000)$/,
    ({ user, database }) =>
      `The user ${user} may not create tables there. As the owner of the database ${database}, run: ` +
      `grant create on schema public to "${user}"; or let an owner start the service once.`,
  ],
  [/^25006$/, () => "It is a standby, or set to be read-only. Use an address that leads to the primary."],
  [/^53300$/, () => "All its connections are in use. Lower DATABASE_POOL_SIZE, or raise max_connections there."],
  [/^57P0/, () => "It is starting or stopping. Try again in a moment."],
  [
    /CERT|^ERR_TLS/,
    () =>
      "Its certificate is not trusted. Name the file of its certificate authority with sslrootcert in DATABASE_URL.",
  ],
];

/** Converts an error of a connection or migration to a sentence for the operator that says what to do. */
export function unusableDatabase(client: Client, cause: unknown): UnusableDatabaseError {
  if (cause instanceof UnusableDatabaseError) return cause;
  // A host with several addresses fails with one error for each, without a message of its own.
  const first: unknown = cause instanceof AggregateError ? cause.errors[0] : cause;
  const said = first instanceof Error ? first.message : String(first);
  const code = first instanceof Error && "code" in first ? String(first.code) : "";
  const what = advice.find(([pattern]) => pattern.test(code))?.[1](client, said) ?? adviceByText(said);
  return new UnusableDatabaseError(
    [`PostgreSQL at ${address(client)} cannot be used: ${said.replace(/\.$/, "")}.`, what].join(" ").trim(),
    { cause },
  );
}

/** Advice for errors of the driver that have no code. */
function adviceByText(said: string): string {
  if (/password must be a (non-empty )?string/.test(said)) return "It asks for a password. Put one into DATABASE_URL.";
  if (/does not support SSL/.test(said))
    return "It does not support TLS. Remove sslmode from DATABASE_URL, or turn TLS on in the database.";
  if (/timeout|Connection terminated/.test(said))
    return "Check that it is PostgreSQL, that it is running, and that the address is right.";
  return "";
}

/** Host and port, or the folder of a Unix socket. */
export function address({ host, port }: Client): string {
  return host.startsWith("/") ? host : `${host.includes(":") ? `[${host}]` : host}:${port}`;
}
