import "reflect-metadata"; // before the first file with decorators
import type { FastifyInstance } from "fastify";
import { setTimeout as delay } from "node:timers/promises";
import { EncoderPool } from "./audio/encoder/encoder-pool.ts";
import { askFfmpeg, describeFfmpeg, findFfmpeg } from "./audio/encoder/ffmpeg.ts";
import { chunkBytes } from "./record/mp3-chunks.ts";
import type { Config } from "./settings/config.ts";
import { openDatabase, type Database } from "./database/database.ts";
import { startEmbeddedPostgres } from "./database/embedded/embedded-postgres.ts";
import { ErrorCodeResolver } from "./graphql/error-code.resolver.ts";
import { explorerRoute } from "./graphql/explorer.route.ts";
import { graphqlRoute } from "./graphql/graphql.route.ts";
import { schemaRoute } from "./graphql/schema.route.ts";
import { createSchema } from "./schema.ts";
import { NodeResolver } from "./node.resolver.ts";
import { readVersion, ServiceResolver } from "./service.resolver.ts";
import { AnswerMemory } from "./http/answer-memory.ts";
import { createApp } from "./http/app.ts";
import { connectionLimit } from "./http/connection-limit.ts";
import { frontPageRoute } from "./http/front-page.route.ts";
import { healthRoutes } from "./http/health.route.ts";
import { listenOn } from "./http/listen.ts";
import { RequestTurns } from "./http/request-turns.ts";
import { WaitingAnswers } from "./http/waiting-answers.ts";
import { AddressLimiter, RateLimiter } from "./limits/rate-limiter.ts";
import { forgetRestoredAllowances, type WriteAllowances } from "./limits/write-allowance.ts";
import { UnvouchedBytes } from "./memory/unvouched-bytes.ts";
import { tables } from "./orm-options.ts";
import type { Logger } from "./telemetry/logger.ts";
import { MemoryBlocks } from "./memory/memory-blocks.ts";
import { RecordConnectionResolver, RecordLibraryResolver } from "./library/record-library.resolver.ts";
import { deleteSomeRecords } from "./library/delete-records.ts";
import { RecordResolver } from "./record/record.resolver.ts";
import { recordRoute } from "./link/record.route.ts";
import {
  CreateLinkPayloadResolver,
  LinkResolver,
  RevokeLinkPayloadResolver,
  SharingResolver,
} from "./link/sharing.resolver.ts";
import { freeBytesOf, StorageRoom } from "./upload/storage-room.ts";
import { SharedRecordingResolver } from "./link/shared-recording.resolver.ts";
import { PlayUrlResolver } from "./link/play-url.resolver.ts";
import { UploadResolver } from "./upload/upload.resolver.ts";
import { UploadTicketResolver } from "./upload/upload-ticket.resolver.ts";
import { openTicket } from "./upload/upload-tickets.ts";
import { UsageResolver } from "./upload/usage.resolver.ts";
import { UploadLeases } from "./upload/upload-leases.ts";
import { RecordUploader } from "./upload/upload-record.ts";
import { UploadSlots } from "./upload/upload-slots.ts";
import { isJwt, Subjects } from "./user/authenticate-subject.ts";
import { authenticateUser } from "./user/authenticate-user.ts";
import type { Caller } from "./caller/caller.ts";
import { AccountResolver } from "./user/account.resolver.ts";
import { Registration } from "./user/registration.ts";
import { UserResolver } from "./user/user.resolver.ts";
import { listenRoutes } from "./web/listen.route.ts";
import { readPageFiles } from "./web/page-files.ts";
import { webPageRoute } from "./web/web-page.route.ts";

/** The running service. Disposing of it lets running uploads finish and releases everything. */
export interface Server extends AsyncDisposable {
  /** Its address, such as `http://localhost:8000`. */
  readonly url: string;
  readonly database: Database;
  /** The start message about ffmpeg: which one, and whether it is confined. */
  readonly ffmpegDescription: string;
  /** The start message about the database: which PostgreSQL, and where its data is. */
  readonly databaseDescription: string;
  /** The start message about registration. */
  readonly registrationDescription: string;
  /** Resolves if the service cannot continue, because its embedded PostgreSQL cannot be restarted. */
  readonly failed: Promise<Error>;
}

/**
 * Starts everything in order. If a step fails, what was already open is released.
 * @throws {Error} with a sentence for the operator
 */
export async function startServer(config: Config, logger: Logger): Promise<Server> {
  await using opening = new AsyncDisposableStack();
  const ffmpeg = await findFfmpeg(config.ffmpegPath);
  const page = config.webPage ? await readPageFiles() : undefined;

  const embedded = config.databaseUrl
    ? undefined
    : opening.use(await startEmbeddedPostgres({ dataDir: config.dataDir, log: logger }));
  const database = opening.use(
    await openDatabase(
      (config.databaseUrl ?? embedded?.url)!,
      { poolSize: config.databasePoolSize, timeoutSeconds: config.databaseTimeoutSeconds, tables },
      logger,
    ),
  );
  const encoders = opening.use(
    new EncoderPool({
      ffmpeg,
      size: config.encoders,
      stallSeconds: config.stallTimeoutSeconds,
      queueTimeoutSeconds: config.queueTimeoutSeconds,
    }),
  );
  const rowMemory = new MemoryBlocks(chunkBytes, 16);
  const leases = opening.use(new UploadLeases(database.em, logger));
  const room = new StorageRoom(
    database,
    {
      dataDir: embedded?.dataDir,
      reserveBytes: config.diskReserveBytes,
      maxDatabaseBytes: config.maxDatabaseBytes,
    },
    logger,
  );
  const allowances = await writeAllowances(config, embedded?.dataDir);
  await forgetRestoredAllowances(database.em);
  const slots = new UploadSlots(config);
  const uploader = new RecordUploader({
    rowMemory,
    encoders,
    slots,
    leases,
    uploadsOfUser: new RateLimiter(database.pool, {
      name: "upload:user",
      what: "upload",
      whose: "by this user",
      perHour: config.maxUploadsPerHour,
    }),
    uploadsFromAddress: new AddressLimiter(database.pool, {
      name: "upload:address",
      what: "upload",
      whose: "from this address",
      perHour: config.maxUploadsPerClient,
    }),
    room,
    allowances,
    config,
  });
  await leases.sweep();

  const stopping = new AbortController();
  const unvouched = new UnvouchedBytes();
  const answers = new AnswerMemory({ stallSeconds: config.stallTimeoutSeconds });
  const turns = new RequestTurns({
    poolSize: config.databasePoolSize,
    maxWaitSeconds: config.databaseTimeoutSeconds,
  });
  let leaving = false;
  const waiting = new WaitingAnswers({ maxBytes: config.maxWaitingBytes, stopping: stopping.signal });
  const app = await createApp(config, logger, stopping.signal, { unvouched, answers });
  opening.defer(async () => await app.close());
  const maxConnections = await connectionLimit({
    encoders: encoders.maxProcesses,
    databaseConnections: config.databasePoolSize,
  });
  if (maxConnections !== undefined) app.server.maxConnections = maxConnections;
  healthRoutes(app, {
    service: { check: async () => (leaving ? "stopping" : undefined), validSeconds: 0 },
    database: { check: async () => await databaseFault(database), validSeconds: 1 },
    storage: { check: async () => await room.lookForRoom(), validSeconds: 0 },
    ffmpeg: {
      check: async () =>
        await askFfmpeg(config.ffmpegPath).then(
          () => undefined,
          () => "ffmpeg cannot be used",
        ),
      validSeconds: 30,
    },
  });
  if (page) webPageRoute(app, page, config);
  else frontPageRoute(app, config);
  const registration = new Registration({
    em: database.em,
    mode: config.registration,
    newUsersFromAddress: new AddressLimiter(database.pool, {
      name: "new-user:address",
      what: "new user",
      whose: "from this address",
      perHour: config.maxNewUsersPerHour,
    }),
    newUsers: new RateLimiter(database.pool, {
      name: "new-user",
      what: "new user",
      whose: "altogether",
      perHour: config.allNewUsersPerHour,
    }),
    allowances,
  });
  const subjects = await subjectsOf(config, database, registration);
  const authenticate = async (token: string, newFrom: string | undefined, userId?: string): Promise<Caller> =>
    subjects && userId === undefined && isJwt(token)
      ? await subjects.authenticate(token, newFrom)
      : await authenticateUser(database.em, token, userId);
  await app.register(async (scope) =>
    recordRoute(scope, {
      em: database.em,
      authenticate: async (token) => await authenticate(token, undefined),
      pool: database.pool,
      rowMemory,
      waiting,
      turns,
      config,
    }),
  );
  await app.register(async (scope) => listenRoutes(scope, { em: database.em, turns, config }));
  const schema = await createSchema([
    new UserResolver(registration),
    new AccountResolver(deleteSomeRecords, allowances),
    new UploadResolver(uploader),
    new UploadTicketResolver(allowances),
    new RecordResolver(),
    new UsageResolver(config.quota),
    new SharingResolver(allowances),
    new LinkResolver(),
    new CreateLinkPayloadResolver(),
    new RevokeLinkPayloadResolver(),
    new SharedRecordingResolver(),
    new PlayUrlResolver(),
    new RecordLibraryResolver(),
    new RecordConnectionResolver(),
    new NodeResolver(),
    new ServiceResolver(config, await readVersion()),
    new ErrorCodeResolver(),
  ]);
  schemaRoute(app, schema);
  if (config.sandbox) explorerRoute(app, config);
  await app.register(
    async (scope) =>
      await graphqlRoute(scope, {
        schema,
        em: database.em,
        authenticate,
        authenticateTicket: async (ticket) => await openTicket(database.em, ticket),
        beforeUpload: async (owner, address) => await uploader.admit(owner, address),
        stopping: stopping.signal,
        unvouched,
        answers,
        turns,
        config,
      }),
  );

  await listenOn(app, config).catch((cause: unknown) => {
    throw new Error(whyNotListening(config, cause), { cause });
  });
  const address = app.server.address();
  opening.defer(async () => {
    leaving = true;
    // Meanwhile, a load balancer notices that the service is not ready, and sends its requests elsewhere.
    await delay(config.shutdownDelaySeconds * 1000);
    stopping.abort();
    const graceEndsAt = performance.now() + config.shutdownGraceSeconds * 1000;
    await uploader.drain(config.shutdownGraceSeconds);
    await closeBy(app, graceEndsAt);
  });
  const open = opening.move();
  return {
    url: `http://localhost:${typeof address === "object" ? address?.port : config.port}`,
    database,
    ffmpegDescription: describeFfmpeg(ffmpeg),
    databaseDescription: embedded
      ? `PostgreSQL ${database.version}, embedded, data in ${embedded.dataDir}`
      : `PostgreSQL ${database.version} at ${database.address}`,
    registrationDescription: describeRegistration(config, allowances),
    failed: embedded?.exited ?? new Promise(() => {}),
    [Symbol.asyncDispose]: async () => await open.disposeAsync(),
  };
}

async function subjectsOf({ oidcIssuer, oidcAudience }: Config, { em }: Database, registration: Registration) {
  if (oidcIssuer === undefined || oidcAudience === undefined) return undefined;
  // Loaded only here: most services have no identity provider, and its library takes 40 ms and 15 MB.
  const { IdentityProvider } = await import("./user/identity-provider.ts");
  return new Subjects(em, new IdentityProvider({ issuer: oidcIssuer, audience: oidcAudience }), registration);
}

/** By default, all new users together may fill 1/48 of the embedded database's free disk per day. */
const partOfDiskInADay = 48;
const defaultBytesInADay = 1024 ** 3;

async function writeAllowances(config: Config, dataDir: string | undefined): Promise<WriteAllowances> {
  const ofDisk = dataDir === undefined ? Infinity : Math.floor((await freeBytesOf(dataDir)) / partOfDiskInADay);
  return {
    newUserDays: config.newUserDays,
    perUser: config.newUserBytesPerDay,
    together: config.allNewUsersBytesPerDay ?? Math.max(1, Math.min(defaultBytesInADay, ofDisk)),
  };
}

/** One line about who may create users, and how much new users may store. */
function describeRegistration({ registration }: Config, { newUserDays, together }: WriteAllowances): string {
  if (registration === "closed") return "Registration is closed: npm run user -- create creates users (REGISTRATION)";
  if (registration === "invite")
    return "Registration needs an invitation: npm run user -- invite creates one (REGISTRATION)";
  const bound =
    newUserDays === 0 || together === 0
      ? "and nothing limits what they store together"
      : `who together may store ${Math.round(together / 1024 ** 2)} MiB a day in their first ${newUserDays} days`;
  return `Registration is open: anyone may create users, ${bound} (REGISTRATION)`;
}

function whyNotListening({ host, port }: Config, cause: unknown): string {
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  if (code === "EADDRINUSE") return `Port ${port} is used by another program. Stop it, or set PORT to another port.`;
  if (code === "EACCES") return `Port ${port} is for privileged programs only. Set PORT to a port above 1023.`;
  return `The service cannot listen on HOST ${host} (${String(code ?? cause)}).`;
}

/** Closes the server. Responses that are still being sent at `time`, but at least one second from now, are cut off. */
async function closeBy(app: FastifyInstance, time: number): Promise<void> {
  const timer = setTimeout(() => app.server.closeAllConnections(), Math.max(1000, time - performance.now()));
  // node:http closes the connections that are idle now, but would keep one that becomes idle later.
  const idleTimer = setInterval(() => app.server.closeIdleConnections(), 50);
  await app.close();
  clearInterval(idleTimer);
  clearTimeout(timer);
}

async function databaseFault(database: Database): Promise<string | undefined> {
  try {
    if (!(await database.isMigrated())) return "migrations are missing";
    return (await database.isReadOnly()) ? "the database is read-only" : undefined;
  } catch {
    return "the database cannot be reached";
  }
}
