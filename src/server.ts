import "reflect-metadata"; // before the first file with decorators
import { setTimeout as delay } from "node:timers/promises";
import { EncoderPool } from "./audio/encoder/encoder-pool.ts";
import { askFfmpeg, describeFfmpeg, findFfmpeg } from "./audio/encoder/ffmpeg.ts";
import { chunkBytes } from "./record/mp3-chunks.ts";
import type { Config } from "./settings/config.ts";
import { openDatabase, type Database } from "./database/database.ts";
import { Standby } from "./database/standby.ts";
import { startEmbeddedPostgres } from "./database/embedded/embedded-postgres.ts";
import { ErrorCodeResolver } from "./graphql/error-code.resolver.ts";
import { explorerRoute } from "./graphql/explorer.route.ts";
import { graphqlRoute } from "./graphql/graphql.route.ts";
import { runAs } from "./graphql/run-as.ts";
import { schemaRoute } from "./graphql/schema.route.ts";
import { createSchema } from "./schema.ts";
import { NodeResolver } from "./node.resolver.ts";
import { readVersion, ServiceResolver } from "./service.resolver.ts";
import { AnswerMemory } from "./http/answer-memory.ts";
import { createApp } from "./http/app.ts";
import { closeBy } from "./http/close-by.ts";
import { connectionLimit } from "./http/connection-limit.ts";
import { frontPageRoute } from "./http/front-page.route.ts";
import { healthRoutes } from "./http/health.route.ts";
import { listenOn } from "./http/listen.ts";
import { RequestTurns } from "./http/request-turns.ts";
import { UnusedConnections } from "./http/unused-connections.ts";
import { WaitingAnswers } from "./http/waiting-answers.ts";
import { OldCounts } from "./limits/forget-old-counts.ts";
import { AddressLimiter, RateLimiter } from "./limits/rate-limiter.ts";
import type { WriteAllowances } from "./limits/write-allowance.ts";
import { LoopTurns } from "./queue/loop-turns.ts";
import { UnvouchedBytes } from "./memory/unvouched-bytes.ts";
import { tables } from "./orm-options.ts";
import type { Logger } from "./telemetry/logger.ts";
import { MemoryBlocks } from "./memory/memory-blocks.ts";
import { RecordConnectionResolver, RecordLibraryResolver } from "./library/record-library.resolver.ts";
import { deleteSomeRecords } from "./library/delete-records.ts";
import { RecordResolver } from "./record/record.resolver.ts";
import { DownloadTally } from "./link/download-tally.ts";
import { Mp3Store } from "./record/mp3-store.ts";
import { ObjectSweeper } from "./record/object-sweeper.ts";
import type { OnS3Answer } from "./record/s3-client.ts";
import { openS3Mp3Store } from "./record/s3-mp3-store.ts";
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
import { OwnerTurns } from "./upload/owner-turns.ts";
import { ResumableUploadResolver, UploadsResolver } from "./upload/resumable-upload.resolver.ts";
import { isPortion, resumableUploadRoute } from "./upload/resumable-upload.route.ts";
import { ResumableUploader } from "./upload/resumable-uploader.ts";
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
  /** The address of the metrics, if they are on. */
  readonly metricsUrl: string | undefined;
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
 * @param signal ends a start that waits for other processes
 * @throws {Error} with a sentence for the operator
 */
export async function startServer(config: Config, logger: Logger, signal?: AbortSignal): Promise<Server> {
  await using opening = new AsyncDisposableStack();
  const ffmpeg = await findFfmpeg(config.ffmpegPath);
  const page = config.webPage ? await readPageFiles() : undefined;

  const metrics = await startMetrics(config);
  if (metrics) opening.use(metrics);
  const embedded = config.databaseUrl
    ? undefined
    : opening.use(await startEmbeddedPostgres({ dataDir: config.dataDir, log: logger }));
  const database = opening.use(
    await openDatabase(
      (config.databaseUrl ?? embedded?.url)!,
      {
        poolSize: config.databasePoolSize,
        timeoutSeconds: config.databaseTimeoutSeconds,
        tables,
        onStatementEnd: metrics && ((seconds, failure) => metrics.statementEnded(seconds, failure)),
        signal,
      },
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
  const standby =
    config.databaseReadUrl === undefined
      ? undefined
      : opening.use(
          new Standby(
            config.databaseReadUrl,
            { poolSize: config.databasePoolSize, onOutcome: (outcome) => metrics?.standbyAsked(outcome) },
            logger,
          ),
        );
  const onAnswer: OnS3Answer | undefined =
    metrics && ((operation, seconds, failure) => metrics.s3Answered(operation, seconds, failure));
  const s3 =
    config.s3Bucket === undefined ? undefined : opening.use(await openS3Mp3Store(config, rowMemory, logger, onAnswer));
  const store = new Mp3Store({
    em: database.em,
    pool: database.pool,
    standby,
    rowMemory,
    s3,
    newIn: config.store,
    failoverSeconds: config.databaseFailoverSeconds,
  });
  const leases = opening.use(
    new UploadLeases(database.em, logger, undefined, (records) => metrics?.recordsSwept(records)),
  );
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
  const forgetting = (error: unknown) => logger.warn({ err: error }, "could not delete old counts of rate limits");
  opening.use(new OldCounts(database.em, forgetting));
  const downloads = opening.use(new DownloadTally(database.em, logger));
  const slots = new UploadSlots(config);
  const ownerTurns = new OwnerTurns();
  const uploader = new RecordUploader({
    store,
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
    ownerTurns,
    metrics,
    config,
  });
  const resumable = opening.use(
    new ResumableUploader({ em: database.em, encoders, slots, room, allowances, ownerTurns, logger, metrics, config }),
  );
  // Nothing waits for it: what dead uploads have left may take minutes to delete.
  void leases.sweep();
  const delays = { deleteSeconds: config.s3DeleteDelaySeconds, uploadSeconds: config.uploadTimeoutSeconds };
  const objectSweeper = s3 && opening.use(new ObjectSweeper(database.em, s3, delays, logger));

  const stopping = new AbortController();
  const unvouched = new UnvouchedBytes();
  const answers = new AnswerMemory({ stallSeconds: config.stallTimeoutSeconds });
  let leaving = false;
  const waiting = new WaitingAnswers({ maxBytes: config.maxWaitingBytes, stopping: stopping.signal });
  const loopTurns = new LoopTurns<string>();
  const app = await createApp(config, logger, stopping.signal, { unvouched, answers, loopTurns });
  opening.defer(async () => await app.close());
  const unused = new UnusedConnections(app.server);
  if (metrics) {
    app.addHook("onResponse", async (request, { statusCode, elapsedTime }) => {
      const { method, routeOptions, headers } = request;
      if (headers["content-type"]?.startsWith("multipart/")) return;
      if (isPortion(request)) return metrics.portionAnswered(statusCode);
      const route = routeOptions.url ?? "none";
      metrics.requestAnswered({ route, method, status: statusCode }, elapsedTime / 1000);
    });
    const { pool } = database;
    metrics.watch({
      uploads: () => ({ underWay: uploader.underWay + resumable.underWay, waiting: slots.waiting + encoders.waiting }),
      encoders: () => ({ places: encoders.size, taken: encoders.taken }),
      connections: () => ({
        idle: pool.idleCount,
        busy: pool.totalCount - pool.idleCount,
        waiting: pool.waitingCount,
      }),
      leaseAgeSeconds: () => leases.ageSeconds,
      objectsWaiting: () => objectSweeper?.waiting ?? 0,
      isStopping: () => leaving,
    });
  }
  const maxConnections = await connectionLimit({
    encoderFiles: encoders.maxFiles,
    databaseConnections: config.databasePoolSize * (standby ? 2 : 1),
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
  const turns = new RequestTurns({
    poolSize: config.databasePoolSize,
    maxWaitSeconds: config.databaseTimeoutSeconds,
    loopTurns,
    prepare: subjects && (async (token) => await subjects.prepare(token)),
  });
  const authenticate = async (token: string, newFrom: string | undefined, userId?: string): Promise<Caller> =>
    subjects && userId === undefined && isJwt(token)
      ? await subjects.authenticate(token, newFrom)
      : await authenticateUser(database.em, token, userId);
  await app.register(async (scope) =>
    recordRoute(scope, {
      em: database.em,
      authenticate: async (token) => await authenticate(token, undefined),
      store,
      downloads,
      metrics,
      waiting,
      turns,
      config,
    }),
  );
  await app.register(async (scope) => listenRoutes(scope, { em: database.em, turns, config }));
  const contextDependencies = {
    em: database.em,
    authenticate,
    authenticateTicket: async (ticket: string) => await openTicket(database.em, ticket),
    beforeUpload: async (owner: Caller, address: string) => await uploader.admit(owner, address),
    answers,
    turns,
  };
  const resumableOptions = { allowances, config };
  const schema = await createSchema([
    new UserResolver(registration),
    new AccountResolver(deleteSomeRecords, allowances),
    new UploadResolver(uploader),
    new UploadTicketResolver(allowances),
    new ResumableUploadResolver(resumableOptions),
    new UploadsResolver(),
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
  await app.register(async (scope) =>
    resumableUploadRoute(scope, {
      ...contextDependencies,
      runAs: async (...query) => await runAs(schema, ...query),
      uploader: resumable,
      options: resumableOptions,
      config,
    }),
  );
  await app.register(
    async (scope) =>
      await graphqlRoute(scope, {
        schema,
        ...contextDependencies,
        stopping: stopping.signal,
        unvouched,
        config,
      }),
  );

  await listenOn(app, config);
  const address = app.server.address();
  opening.defer(async () => {
    leaving = true;
    // Meanwhile, a load balancer notices that the service is not ready, and sends its requests elsewhere.
    await delay(config.shutdownDelaySeconds * 1000);
    stopping.abort();
    const graceEndsAt = performance.now() + config.shutdownGraceSeconds * 1000;
    await Promise.all([uploader.drain(config.shutdownGraceSeconds), resumable.drain()]);
    await closeBy(app, unused, graceEndsAt);
  });
  const open = opening.move();
  return {
    url: `http://localhost:${typeof address === "object" ? address?.port : config.port}`,
    metricsUrl: metrics?.url,
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

/** Loaded only here: most services have no Prometheus. */
async function startMetrics({ host, metricsPort: port }: Config) {
  if (port === undefined) return undefined;
  const { startPrometheusMetrics } = await import("./telemetry/prometheus-metrics.ts");
  return await startPrometheusMetrics({ host, port });
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

async function databaseFault(database: Database): Promise<string | undefined> {
  try {
    if (!(await database.isMigrated())) return "migrations are missing";
    return (await database.isReadOnly()) ? "the database is read-only" : undefined;
  } catch {
    return "the database cannot be reached";
  }
}
