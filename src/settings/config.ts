import { BlockList, isIP, isIPv6 } from "node:net";
import { availableParallelism, totalmem } from "node:os";
import { parseAllowedHost } from "../addresses/allowed-hosts.ts";
import { parseCorsOrigin } from "../addresses/cors-origins.ts";
import { qualityNames, type Quality } from "../audio/mp3/quality.ts";
import { registrationModes, type RegistrationMode } from "./registration-mode.ts";
import { visibilities, type Visibility } from "./visibility.ts";

/** What a user's recordings may take up altogether; 0: unlimited. */
export interface Quota {
  /** Of MP3. */
  readonly bytes: number;
  readonly seconds: number;
  readonly records: number;
}

/** All settings of the service, read from environment variables by {@link readConfig}. */
export interface Config {
  readonly production: boolean;
  readonly host: string;
  readonly port: number;
  /** Origin in the links, without a slash at the end; undefined: taken from each request. */
  readonly publicUrl: string | undefined;
  /** Names that requests may be addressed to, as in {@link isAllowedHost}; undefined: any. */
  readonly allowedHosts: readonly string[] | undefined;
  /** Proxies whose `X-Forwarded-*` headers are believed; undefined: nobody's. */
  readonly trustedProxies: BlockList | undefined;
  /** Origins whose pages may call the API, besides the service's own, as in {@link isAllowedOrigin}. */
  readonly corsOrigins: readonly string[];
  readonly logLevel: LogLevel;
  readonly introspection: boolean;
  readonly sandbox: boolean;

  /** The PostgreSQL to use; undefined: an embedded one. */
  readonly databaseUrl: string | undefined;
  readonly databasePoolSize: number;
  /** How long a connection or a statement may take before the database counts as unavailable. */
  readonly databaseTimeoutSeconds: number;
  /** Where the embedded PostgreSQL keeps its data; undefined: `data` in the project's folder. */
  readonly dataDir: string | undefined;

  readonly ffmpegPath: string | undefined;
  /** Encoder processes that may work at the same time. */
  readonly encoders: number;
  readonly quality: Quality;
  /** Who may read a new record by its plain link. */
  readonly visibility: Visibility;

  readonly maxUploadBytes: number;
  readonly maxDurationSeconds: number;
  /** Uploads that may be under way at the same time. */
  readonly maxUploads: number;
  readonly maxUploadsPerUser: number;
  /** Least average speed of an upload whose client the service waits for; 0: none. */
  readonly minUploadBytesPerSecond: number;
  /** How long an upload waits for its turn before it is refused. */
  readonly queueTimeoutSeconds: number;
  /** How long an upload may go without a byte, and an encoder without doing anything. */
  readonly stallTimeoutSeconds: number;
  /** How long a whole upload may take. */
  readonly uploadTimeoutSeconds: number;
  readonly shutdownGraceSeconds: number;
  /** How long the service goes on as before, but unready, after it was told to stop. */
  readonly shutdownDelaySeconds: number;
  /** Memory that downloads may hold while their clients take nothing, such as players that pause. */
  readonly maxWaitingBytes: number;

  /** Who may make a user by `createUser`. */
  readonly registration: RegistrationMode;
  /** New users for each client address within an hour; 0: no limit. */
  readonly maxNewUsersPerHour: number;
  /** New users in all within an hour, without those who were invited; 0: no limit. */
  readonly allNewUsersPerHour: number;
  /** Days for which somebody who registered without the operator's doing counts as a new user. */
  readonly newUserDays: number;
  /** What each new user may make the database write, within a day and on the average; 0: no limit. */
  readonly newUserBytesPerDay: number;
  /** The same for all of them together; undefined: as the disk has room. */
  readonly allNewUsersBytesPerDay: number | undefined;
  /** Uploads for each user within an hour; 0: no limit. */
  readonly maxUploadsPerHour: number;
  /** Uploads from each client address within an hour; 0: no limit. */
  readonly maxUploadsPerAddress: number;

  /** What each user's recordings may take up, unless the user's row says otherwise. */
  readonly quota: Quota;
  /** Bytes that uploads leave free on the disk of the embedded PostgreSQL. */
  readonly diskReserveBytes: number;
  /** Size of the database from which on uploads are refused; 0: no limit. */
  readonly maxDatabaseBytes: number;

  /** `Cache-Control` of an MP3 that plays; by default for ever, as its bytes never change, but not for everybody. */
  readonly recordCacheControl: string;
}

export type LogLevel = "fatal" | "error" | "warn" | "info" | "debug" | "trace" | "silent";

/** One or more settings have values that cannot be used; the message names them all. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

type Env = Readonly<Record<string, string | undefined>>;

/**
 * Reads the settings from environment variables; unset or empty ones take their defaults.
 * @throws {ConfigError} naming every variable whose value cannot be used
 */
export function readConfig(env: Env): Config {
  const faults: string[] = [];
  const text = (name: string): string | undefined => env[name]?.trim() || undefined;

  const integer = (name: string, fallback: number, min: number, max: number): number => {
    const given = text(name);
    if (given === undefined) return fallback;
    const value = /^\d+$/.test(given) ? Number(given) : NaN;
    if (value >= min && value <= max) return value;
    faults.push(`${name} must be an integer from ${min} to ${max}`);
    return fallback;
  };

  const oneOf = <T extends string>(name: string, fallback: T, values: readonly T[]): T => {
    const given = text(name);
    if (given === undefined) return fallback;
    const value = values.find((candidate) => candidate === given);
    if (value === undefined) faults.push(`${name} must be one of ${values.join(", ")}`);
    return value ?? fallback;
  };

  const flag = (name: string, fallback: boolean): boolean =>
    oneOf(name, fallback ? "true" : "false", ["true", "false"]) === "true";

  const url = (name: string, protocols: readonly string[]): URL | undefined => {
    const given = text(name);
    if (given === undefined) return undefined;
    const value = URL.canParse(given) ? new URL(given) : undefined;
    if (value && protocols.includes(value.protocol)) return value;
    faults.push(`${name} must be a URL that starts with ${protocols.map((protocol) => `${protocol}//`).join(" or ")}`);
    return undefined;
  };

  const production = oneOf("NODE_ENV", "development", ["development", "production", "test"]) === "production";
  const publicUrl = url("PUBLIC_URL", ["http:", "https:"]);
  if (publicUrl && (publicUrl.search || publicUrl.hash)) faults.push("PUBLIC_URL must not have a query or a fragment");
  const databaseUrl = readDatabaseUrl(text("DATABASE_URL"), faults);

  const config: Config = {
    production,
    // Rate limits are off in development: nobody else should be let in by chance.
    host: text("HOST") ?? (production ? "0.0.0.0" : "127.0.0.1"),
    port: integer("PORT", 8000, 0, 65_535),
    publicUrl: publicUrl?.href.replace(/\/+$/, ""),
    allowedHosts: readAllowedHosts(text("ALLOWED_HOSTS"), publicUrl, faults),
    trustedProxies: readTrustProxy(text("TRUST_PROXY"), faults),
    corsOrigins: readCorsOrigins(text("CORS_ORIGINS"), faults),
    logLevel: oneOf("LOG_LEVEL", "info", ["fatal", "error", "warn", "info", "debug", "trace", "silent"]),
    introspection: flag("INTROSPECTION", !production),
    sandbox: flag("SANDBOX", !production),
    databaseUrl: withPassword(databaseUrl, text("DATABASE_PASSWORD"), faults),
    databasePoolSize: integer("DATABASE_POOL_SIZE", 10, 2, 200),
    databaseTimeoutSeconds: integer("DATABASE_TIMEOUT_SECONDS", 10, 1, 600),
    dataDir: text("DATA_DIR"),
    ffmpegPath: text("FFMPEG_PATH"),
    encoders: integer("ENCODERS", availableParallelism(), 1, 256),
    quality: oneOf("QUALITY", "STANDARD", qualityNames),
    visibility: oneOf("VISIBILITY", "PUBLIC", visibilities),
    maxUploadBytes: integer("MAX_UPLOAD_BYTES", 2 * 1024 ** 3, 1024, 2 ** 46),
    maxDurationSeconds: integer("MAX_DURATION_SECONDS", 12 * 3600, 1, 100 * 3600),
    maxUploads: integer("MAX_UPLOADS", 128, 1, 10_000),
    maxUploadsPerUser: integer("MAX_UPLOADS_PER_USER", 32, 1, 10_000),
    minUploadBytesPerSecond: integer("MIN_UPLOAD_BYTES_PER_SECOND", 1000, 0, 1_000_000),
    queueTimeoutSeconds: integer("QUEUE_TIMEOUT_SECONDS", 30, 0, 3600),
    stallTimeoutSeconds: integer("STALL_TIMEOUT_SECONDS", 30, 1, 3600),
    uploadTimeoutSeconds: integer("UPLOAD_TIMEOUT_SECONDS", 6 * 3600, 1, 7 * 86_400),
    shutdownDelaySeconds: integer("SHUTDOWN_DELAY_SECONDS", 0, 0, 600),
    shutdownGraceSeconds: integer("SHUTDOWN_GRACE_SECONDS", 30, 0, 3600),
    maxWaitingBytes: integer("MAX_WAITING_BYTES", eighthOfMemory(), 4 * 1024 ** 2, 2 ** 46),
    maxNewUsersPerHour: integer("MAX_NEW_USERS_PER_HOUR", production ? 60 : 0, 0, 1_000_000),
    registration: oneOf("REGISTRATION", "open", registrationModes),
    allNewUsersPerHour: integer("ALL_NEW_USERS_PER_HOUR", production ? 600 : 0, 0, 10_000_000),
    newUserDays: integer("NEW_USER_DAYS", 31, 0, 36_500),
    newUserBytesPerDay: integer("NEW_USER_BYTES_PER_DAY", 256 * 1024 ** 2, 0, 2 ** 50),
    allNewUsersBytesPerDay:
      text("ALL_NEW_USERS_BYTES_PER_DAY") === undefined
        ? undefined
        : integer("ALL_NEW_USERS_BYTES_PER_DAY", 0, 0, 2 ** 50),
    diskReserveBytes: integer("DISK_RESERVE_BYTES", 1024 ** 3, 0, 2 ** 50),
    maxDatabaseBytes: integer("MAX_DATABASE_BYTES", 0, 0, 2 ** 50),
    maxUploadsPerHour: integer("MAX_UPLOADS_PER_HOUR", production ? 600 : 0, 0, 1_000_000),
    maxUploadsPerAddress: integer("MAX_UPLOADS_PER_CLIENT", production ? 6000 : 0, 0, 10_000_000),
    quota: {
      bytes: integer("QUOTA_BYTES", 2 * 1024 ** 3, 0, 2 ** 50),
      seconds: integer("QUOTA_SECONDS", 50 * 3600, 0, 2 ** 40),
      records: integer("QUOTA_RECORDS", 5000, 0, 2 ** 31 - 1),
    },
    recordCacheControl: text("RECORD_CACHE_CONTROL") ?? "private, max-age=31536000, immutable",
  };
  if (/[^\t\x20-\x7e]/.test(config.recordCacheControl)) faults.push("RECORD_CACHE_CONTROL must be plain ASCII text");
  if (faults.length > 0) throw new ConfigError(faults.join("; "));
  return config;
}

/** What node-postgres would misread, or fail at in words that do not name the setting, is refused here. */
function readDatabaseUrl(given: string | undefined, faults: string[]): string | undefined {
  if (given === undefined) return undefined;
  // libpq's form for a Unix socket, `postgresql://user@/database?host=/var/run/postgresql`, has no host at its place.
  const parsable = given.replace("@/", "@localhost/");
  const [, authority = ""] = /^[a-z]+:\/\/([^/?#]*)/.exec(given) ?? [];
  const fault = !/^postgres(ql)?:\/\//.test(given)
    ? "must be a URL that starts with postgres:// or postgresql://"
    : given.includes("#")
      ? "must not contain #: write %23 for a # in the password"
      : /%(?![\da-f]{2})/i.test(given)
        ? "contains a % that escapes nothing: write %25 for a % in the password"
        : authority.slice(authority.lastIndexOf("@") + 1).includes(",")
          ? "must name one host: for several servers, name an address that always leads to the primary"
          : URL.canParse(parsable)
            ? undefined
            : "must have the form postgresql://user:password@host:5432/database; " +
              "write special characters of the password as in a URL, / as %2F for instance";
  if (fault) faults.push(`DATABASE_URL ${fault}`);
  return given;
}

/** A password that comes by itself, as from a file of secrets, needs no escapes. */
function withPassword(url: string | undefined, password: string | undefined, faults: string[]): string | undefined {
  if (password === undefined || url === undefined || faults.length > 0) return url;
  const [, start, user, rest] = /^([a-z]+:\/\/)([^:@/?]+)(@.*)$/.exec(url) ?? [];
  if (user === undefined) {
    faults.push("DATABASE_PASSWORD goes with a DATABASE_URL that names a user and no password");
    return url;
  }
  return `${start}${user}:${encodeURIComponent(password)}${rest}`;
}

/** The names of PUBLIC_URL and of the machine itself are always among them. */
function readAllowedHosts(given: string | undefined, publicUrl: URL | undefined, faults: string[]) {
  if (given === undefined) return undefined;
  const hosts = given.split(",").map((entry) => parseAllowedHost(entry.trim()));
  if (hosts.includes(undefined)) {
    faults.push("ALLOWED_HOSTS must list names such as music.example.com or *.example.com, separated by commas");
  }
  return [...hosts, publicUrl?.host, "localhost", "127.0.0.1", "[::1]"].filter((host) => host !== undefined);
}

function readCorsOrigins(given: string | undefined, faults: string[]): string[] {
  const origins: string[] = [];
  const wrong: string[] = [];
  for (const entry of given?.split(/[\s,]+/).filter((text) => text !== "") ?? []) {
    try {
      origins.push(parseCorsOrigin(entry));
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      wrong.push(error.message);
    }
  }
  if (wrong.length > 0) {
    faults.push(
      "CORS_ORIGINS must list origins such as https://app.example.com, https://*.example.com or capacitor://localhost, " +
        `separated by commas, or be *: ${wrong.join(", ")}`,
    );
  }
  return origins;
}

/** The private networks by the names that Fastify and Express give them. */
const networks: Readonly<Record<string, readonly string[]>> = {
  loopback: ["127.0.0.0/8", "::1/128"],
  linklocal: ["169.254.0.0/16", "fe80::/10"],
  uniquelocal: ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"],
};

/**
 * Proxies are named by address only: a number of hops cannot tell a proxy from a client that comes past it, and whoever
 * is believed may claim any address and host (GHSA-3m5p-2c4r-xxw2).
 */
function readTrustProxy(given: string | undefined, faults: string[]): BlockList | undefined {
  if (given === undefined || given === "false") return undefined;
  const proxies = new BlockList();
  for (const entry of given.split(",").flatMap((name) => networks[name.trim()] ?? name.trim())) {
    const [address = "", bits] = entry.split("/", 2);
    const family = isIPv6(address) ? "ipv6" : "ipv4";
    const most = family === "ipv6" ? 128 : 32;
    const length = bits === undefined ? most : /^\d{1,3}$/.test(bits) ? Number(bits) : NaN;
    if (isIP(address) && length <= most) proxies.addSubnet(address, length, family);
    else {
      faults.push(
        "TRUST_PROXY must be false, or the addresses of the proxies: loopback, linklocal, uniquelocal, " +
          `192.0.2.1, 192.0.2.0/24, separated by commas; ${/^(true|\d+)$/.test(entry) ? `${entry} would believe anybody` : `${entry} is none of these`}`,
      );
    }
  }
  return proxies;
}

/** Of the memory that the process may use, in a container too. */
function eighthOfMemory(): number {
  const bytes = Math.min(totalmem(), process.constrainedMemory() || Infinity);
  return Math.max(Math.floor(bytes / 8), 4 * 1024 ** 2);
}
