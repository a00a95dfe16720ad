import { availableParallelism, totalmem } from "node:os";
import { qualityNames } from "../audio/mp3/quality.ts";
import { maxEmbeddedPoolSize } from "../database/embedded/server-connections.ts";
import { parseDatabaseUrl } from "./database-url.ts";
import { registrationModes } from "./registration-mode.ts";
import { storeNames } from "./store-name.ts";
import { flag, integer, oneOf, parsed, text, type Setting } from "./setting.ts";
import {
  parseAllowedHosts,
  parseBucket,
  parseCorsOrigins,
  parseEndpoint,
  parseHeaderValue,
  parseIssuer,
  parsePublicUrl,
} from "./setting-values.ts";
import { parseTrustProxy } from "./trusted-proxies.ts";
import { visibilities } from "./visibility.ts";

const [KiB, MiB, GiB, PiB] = [1024, 1024 ** 2, 1024 ** 3, 1024 ** 5];
const [hour, day] = [3600, 86_400];

/**
 * The only table of all settings. The name of a setting's environment variable is its field in capitals ({@link
 * variableName}). The reader ({@link readConfig}) uses this table, and `npm run schema` writes the README's table and
 * `.env.example` from it.
 */
export const settings = {
  nodeEnv: oneOf(["development", "production", "test"], {
    default: "development",
    meaning: "`production`: no Sandbox, no introspection, rate limits, and nothing but JSON in the log.",
  }),
  // Rate limits are off in development, so other machines may connect only if the operator wants it.
  host: text({
    default: "127.0.0.1",
    inProduction: "0.0.0.0",
    values: "name or address",
    meaning: "Address to listen on. `0.0.0.0` accepts connections from other machines.",
  }),
  port: integer({ default: 8000, from: 0, to: 65_535, meaning: "Port to listen on. 0 takes a free one." }),
  publicUrl: parsed<string | undefined>(parsePublicUrl, {
    default: undefined,
    defaultText: "from each request",
    values: "http or https URL",
    meaning: "Start of the links in answers, such as `https://music.example.com`.",
  }),
  allowedHosts: parsed<readonly string[] | undefined>(parseAllowedHosts, {
    default: undefined,
    defaultText: "any",
    values: "names, separated by commas",
    meaning:
      "Hosts that requests may name, such as `music.example.com,*.example.com`. The host in `PUBLIC_URL` and this " +
      "machine's own names are always allowed.",
  }),
  trustProxy: parsed(parseTrustProxy, {
    default: undefined,
    defaultText: "`false`",
    values: "`false`, or addresses and networks, separated by commas",
    meaning:
      "Proxies whose `X-Forwarded-*` headers are trusted: `loopback`, `uniquelocal` (private networks), " +
      "`192.0.2.1`, `192.0.2.0/24`.",
  }),
  corsOrigins: parsed(parseCorsOrigins, {
    default: [],
    defaultText: "this machine's pages, in production none",
    values: "`*`, or origins, separated by commas",
    meaning:
      "Origins whose pages may call the API, such as `https://app.example.com`, `https://*.example.com` or " +
      "`capacitor://localhost`. Outside production, this machine's pages may in any case. Links play on every page.",
  }),
  logLevel: oneOf(["fatal", "error", "warn", "info", "debug", "trace", "silent"], {
    default: "info",
    meaning: "Least serious level that is logged.",
  }),
  metricsPort: integer({
    default: undefined,
    defaultText: "none",
    from: 0,
    to: 65_535,
    meaning: "Port on which Prometheus gets `/metrics`. It listens on `HOST`; do not publish it. 0 takes a free one.",
  }),
  webPage: flag({ default: true, meaning: "Whether `GET /` shows browsers the page that records, uploads and plays." }),
  sandbox: flag({
    default: true,
    inProduction: false,
    meaning: "Whether `GET /graphql` shows Apollo Sandbox, and `GET /explore` an explorer that needs no internet.",
  }),
  introspection: flag({
    default: true,
    inProduction: false,
    meaning: "Whether queries may ask for the schema. `/schema.graphql` has it in any case.",
  }),

  databaseUrl: parsed<string | undefined>(parseDatabaseUrl, {
    default: undefined,
    defaultText: "an embedded PostgreSQL",
    values: "PostgreSQL URL",
    meaning: "PostgreSQL 14 or newer, as `postgresql://user:password@host:5432/database`. A `#` is written `%23`.",
    isSecret: true,
  }),
  databaseReadUrl: parsed<string | undefined>(parseDatabaseUrl, {
    default: undefined,
    defaultText: "none",
    values: "PostgreSQL URL",
    meaning:
      "Standbys of that PostgreSQL, as one address, from which the rows of MP3s are read first. What a standby lacks or fails " +
      "at is read from `DATABASE_URL`.",
    isSecret: true,
  }),
  databasePassword: text({
    default: undefined,
    defaultText: "the ones in the URLs",
    values: "text",
    meaning: "Password for `DATABASE_URL` and `DATABASE_READ_URL`, without escapes.",
    isSecret: true,
  }),
  databasePoolSize: integer({
    default: 10,
    from: 2,
    to: 200,
    unit: "connections",
    meaning: `Most connections to PostgreSQL. The embedded one has room for ${maxEmbeddedPoolSize}.`,
  }),
  databaseTimeoutSeconds: integer({
    default: 10,
    from: 1,
    to: 600,
    unit: "seconds",
    meaning: "Longest wait for a connection or a statement before the database counts as unavailable.",
  }),
  databaseFailoverSeconds: integer({
    default: 60,
    from: 0,
    to: 60,
    unit: "seconds",
    meaning:
      "How long uploads and downloads under way wait for a database that is away, as during a failover. Other requests " +
      "do not wait.",
  }),
  dataDir: text({
    default: undefined,
    defaultText: "`data` in this folder",
    values: "path",
    meaning: "Folder in which the embedded PostgreSQL keeps its data.",
  }),

  store: oneOf(storeNames, {
    default: "postgres",
    meaning:
      "Where the MP3s of new recordings are stored: in PostgreSQL (`postgres`), or in a bucket of any S3 (`s3`). Recordings " +
      "in the other place can still be played.",
  }),
  s3Endpoint: parsed<string | undefined>(parseEndpoint, {
    default: undefined,
    defaultText: "AWS, by region",
    values: "http or https URL",
    meaning: "Address of the S3 service, such as `https://s3.example.com`. The bucket's name is put into the path.",
  }),
  s3Bucket: parsed<string | undefined>(parseBucket, {
    default: undefined,
    defaultText: "required with `STORE=s3`",
    values: "name",
    meaning: "Bucket, which must exist. Recordings in it can be played as long as this is set, whatever `STORE` says.",
  }),
  s3Region: text({ default: "us-east-1", values: "text", meaning: "Region of the bucket." }),
  s3AccessKey: text({
    default: undefined,
    defaultText: "what AWS's client finds, such as a role",
    values: "text",
    meaning: "Access key for the bucket.",
    isSecret: true,
  }),
  s3SecretKey: text({
    default: undefined,
    defaultText: "required with `S3_ACCESS_KEY`",
    values: "text",
    meaning: "Secret key for the bucket.",
    isSecret: true,
  }),
  s3TimeoutSeconds: integer({
    default: 60,
    from: 1,
    to: 80,
    unit: "seconds",
    meaning:
      "Longest time for one read or write in the bucket, with its repetitions, before an upload or download fails with " +
      "`STORAGE_UNAVAILABLE`.",
  }),
  s3DeleteDelaySeconds: integer({
    default: day,
    from: 0,
    to: 366 * day,
    unit: "seconds",
    meaning:
      "How long the bucket keeps the MP3 of a deleted recording, so that a restored backup of the database finds it. 0: " +
      "not at all.",
  }),

  ffmpegPath: text({
    default: undefined,
    defaultText: "the one from npm, else from `PATH`",
    values: "path",
    meaning: "ffmpeg to use. It must have libmp3lame.",
  }),
  encoders: integer({
    default: availableParallelism(),
    defaultText: "number of cores",
    from: 1,
    to: 256,
    unit: "processes",
    meaning: "ffmpeg processes that encode at the same time.",
  }),
  quality: oneOf(qualityNames, { default: "STANDARD", meaning: "Bit rate of an upload that does not choose one." }),
  visibility: oneOf(visibilities, {
    default: "PUBLIC",
    meaning:
      "Who may play a new recording by its plain link: anybody who has the link (`PUBLIC`), or its " +
      "owner only (`PRIVATE`).",
  }),

  maxUploadBytes: integer({
    default: 2 * GiB,
    from: KiB,
    to: 2 ** 46,
    unit: "bytes",
    meaning: "Largest file.",
  }),
  maxDurationSeconds: integer({
    default: 12 * hour,
    from: 1,
    to: 100 * hour,
    unit: "seconds",
    meaning: "Longest recording.",
  }),
  maxUploads: integer({
    default: 64,
    from: 1,
    to: 10_000,
    unit: "uploads",
    meaning: "Uploads that run at the same time, without those that wait for their client. Further ones wait.",
  }),
  maxUploadsPerUser: integer({
    default: 32,
    from: 1,
    to: 10_000,
    unit: "uploads",
    meaning: "The same for one user.",
  }),
  minUploadBytesPerSecond: integer({
    default: 1000,
    from: 0,
    to: 1_000_000,
    unit: "bytes a second",
    meaning:
      "Minimum speed of an upload while the service waits for its client: the average over twice " +
      "`STALL_TIMEOUT_SECONDS`, and not before `STALL_TIMEOUT_SECONDS`. 0: no limit.",
  }),
  queueTimeoutSeconds: integer({
    default: 30,
    from: 0,
    to: hour,
    unit: "seconds",
    meaning: "A waiting upload is refused with `BUSY` when no upload has got its turn for this long.",
  }),
  stallTimeoutSeconds: integer({
    default: 30,
    from: 1,
    to: hour,
    unit: "seconds",
    meaning: "Longest pause of an upload, or of an encoder, before it fails.",
  }),
  uploadTimeoutSeconds: integer({
    default: 6 * hour,
    from: 1,
    to: 7 * day,
    unit: "seconds",
    meaning: "Longest time for a whole upload.",
  }),
  resumableUploadSeconds: integer({
    default: day,
    from: 300,
    to: 30 * day,
    unit: "seconds",
    meaning: "How long a resumable upload is kept after its last request, at most.",
  }),
  shutdownDelaySeconds: integer({
    default: 0,
    from: 0,
    to: 600,
    unit: "seconds",
    meaning:
      "After SIGTERM the service works on for this long while `/readyz` answers 503: the time that a load balancer needs " +
      "to turn to others.",
  }),
  shutdownGraceSeconds: integer({
    default: 30,
    from: 0,
    to: hour,
    unit: "seconds",
    meaning: "Longest time for uploads to finish after Ctrl-C or SIGTERM.",
  }),
  maxWaitingBytes: integer({
    default: eighthOfMemory(),
    defaultText: "an eighth of the memory",
    from: 4 * MiB,
    to: 2 ** 46,
    unit: "bytes",
    meaning:
      "Memory for downloads whose clients take nothing at the moment, such as paused players: up to 1.1 MiB each. When " +
      "it is used up, the one that has waited longest ends.",
  }),

  registration: oneOf(registrationModes, {
    default: "open",
    meaning:
      "Who may create users: anybody (`open`), holders of an invitation (`invite`), or the operator only (`closed`).",
  }),
  oidcIssuer: parsed<string | undefined>(parseIssuer, {
    default: undefined,
    defaultText: "no issuer",
    values: "https URL",
    meaning:
      "OpenID Connect issuer whose JWTs are accepted as Bearer tokens, such as `https://login.example.com`. Each subject " +
      "becomes a user at first use, unless `REGISTRATION` is `closed`.",
  }),
  oidcAudience: text({
    default: undefined,
    defaultText: "required with `OIDC_ISSUER`",
    values: "text",
    meaning: "Audience (`aud`) that those JWTs must name.",
  }),
  maxNewUsersPerHour: integer({
    default: 0,
    inProduction: 60,
    from: 0,
    to: 1_000_000,
    unit: "users an hour",
    meaning: "New users from one client address. 0: no limit.",
  }),
  allNewUsersPerHour: integer({
    default: 0,
    inProduction: 600,
    from: 0,
    to: 10_000_000,
    unit: "users an hour",
    meaning: "New users altogether, without those who were invited. 0: no limit.",
  }),
  newUserDays: integer({
    default: 31,
    from: 0,
    to: 36_500,
    unit: "days",
    meaning:
      "How long a user counts as new. Users whom the operator created, invited or gave a quota never do. 0: nobody does.",
  }),
  newUserBytesPerDay: integer({
    default: 256 * MiB,
    from: 0,
    to: PiB,
    unit: "bytes a day",
    meaning: "What one new user may write, deleted bytes included. Up to 8 days' worth is saved up. 0: no limit.",
  }),
  allNewUsersBytesPerDay: integer({
    default: undefined,
    defaultText: `${GiB}, on the embedded PostgreSQL at most 1/48 of the free disk`,
    from: 0,
    to: PiB,
    unit: "bytes a day",
    meaning: "The same for all new users together. 0: no limit.",
  }),
  maxUploadsPerHour: integer({
    default: 0,
    inProduction: 600,
    from: 0,
    to: 1_000_000,
    unit: "uploads an hour",
    meaning: "Uploads that one user may begin. 0: no limit.",
  }),
  maxUploadsPerClient: integer({
    default: 0,
    inProduction: 6000,
    from: 0,
    to: 10_000_000,
    unit: "uploads an hour",
    meaning: "Uploads that one client address may begin. 0: no limit.",
  }),
  maxSmallPortionsPerMinute: integer({
    default: 0,
    inProduction: 3000,
    from: 0,
    to: 10_000_000,
    unit: "requests a minute",
    meaning:
      "Requests with less than 64 KiB for the resumable uploads of one token or ticket, at each replica. The next one fails " +
      "with `RATE_LIMITED`; larger ones do not. 0: no limit.",
  }),

  quotaBytes: integer({
    default: 2 * GiB,
    from: 0,
    to: PiB,
    unit: "bytes",
    meaning: "MP3 bytes that one user may keep. 0: no limit.",
  }),
  quotaSeconds: integer({
    default: 50 * hour,
    from: 0,
    to: 2 ** 40,
    unit: "seconds",
    meaning: "Seconds of sound that one user may keep. 0: no limit.",
  }),
  quotaRecords: integer({
    default: 5000,
    from: 0,
    to: 2 ** 31 - 1,
    unit: "recordings",
    meaning: "Recordings that one user may keep. 0: no limit.",
  }),
  diskReserveBytes: integer({
    default: GiB,
    from: 0,
    to: PiB,
    unit: "bytes",
    meaning: "Free room on the embedded PostgreSQL's disk, below which uploads are refused with `STORAGE_FULL`.",
  }),
  maxDatabaseBytes: integer({
    default: 0,
    from: 0,
    to: PiB,
    unit: "bytes",
    meaning:
      "Size of the database from which uploads are refused, for a PostgreSQL whose disk the service cannot see. 0: no " +
      "limit.",
  }),
  // By default without end, because an MP3's bytes never change, but only in the browser's own cache.
  recordCacheControl: parsed(parseHeaderValue, {
    default: "private, max-age=31536000, immutable",
    values: "ASCII text",
    meaning: "`Cache-Control` of MP3s that play; `public, ...` for a CDN. Downloads are always `no-cache`.",
  }),
};

/** The values of all settings, by field. */
export type SettingValues = {
  readonly [Field in keyof typeof settings]: (typeof settings)[Field] extends Setting<infer T> ? T : never;
};

/** All settings with their fields, in the order of the table. */
export const settingEntries: readonly (readonly [field: string, setting: Setting<unknown>])[] =
  Object.entries(settings);

/** The environment variable of a setting: MAX_UPLOAD_BYTES for `maxUploadBytes`. */
export function variableName(field: string): string {
  return field.replaceAll(/[A-Z]/g, "_$&").toUpperCase();
}

/** An eighth of the memory that the process may use, also in a container. */
function eighthOfMemory(): number {
  const bytes = Math.min(totalmem(), process.constrainedMemory() || Infinity);
  return Math.max(Math.floor(bytes / 8), 4 * MiB);
}
