import { ConfigError, type Config } from "./settings/config.ts";
import { createLogger } from "./telemetry/logger.ts";
import { loadConfig } from "./settings/load-config.ts";
import type { Server } from "./server.ts";

/** Process entry: reads the settings, starts the service, and stops it on SIGTERM or SIGINT. */
async function main(): Promise<void> {
  if (Number.parseInt(process.versions.node, 10) < 24) {
    throw new ConfigError(
      `The service needs Node 24 or newer, and this is ${process.versions.node}. Run npm ci with its optional packages, or install Node 24`,
    );
  }
  // An older Node would fail at this import with an obscure message.
  const { startServer } = await import("./server.ts");
  const stop = Promise.withResolvers<NodeJS.Signals>();
  const starting = new AbortController();
  let firstAt: number | undefined;
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      // A second signal ends the process at once. Under npm, Ctrl-C arrives twice: from the terminal and from npm.
      const isEcho = signal === "SIGINT" && performance.now() - (firstAt ?? -Infinity) < 1000;
      if (firstAt !== undefined && !isEcho) process.exit(1);
      firstAt ??= performance.now();
      stop.resolve(signal);
      starting.abort();
    });
  }

  const config = await loadConfig(process.env);
  const logger = createLogger(config);
  await using server = await startServer(config, logger, starting.signal).catch((error: unknown) => {
    // Ctrl-C in a terminal also ends programs that the start was running, such as initdb. That is not an error.
    if (firstAt === undefined) throw error;
    process.stderr.write("web-user-music was stopped while it was starting.\n");
    return undefined;
  });
  if (!server) return;
  if (config.production) logger.info(startMessage(server, config).join("; "));
  else process.stdout.write(`${startMessage(server, config).join("\n")}\n`);
  const reason = await Promise.race([stop.promise, server.failed]);
  if (reason instanceof Error) {
    process.exitCode = 1;
    logger.fatal({ err: reason }, "stopping: the service cannot continue");
  } else logger.info({ signal: reason }, "stopping: running uploads may finish");
}

/** Says in plain words what was started, and suggests a first command. */
function startMessage(server: Server, config: Config): string[] {
  const address = config.publicUrl ?? server.url;
  return [
    `web-user-music listens on ${address}`,
    server.databaseDescription,
    server.ffmpegDescription,
    server.registrationDescription,
    config.registration === "open"
      ? `Try: curl ${address}/graphql -H 'content-type: application/json' -d '{"query":"mutation { createUser(name: \\"Ann\\") { user { id } token } }"}'`
      : `Try: npm run user -- ${config.registration === "invite" ? "invite" : "create Ann"}`,
  ];
}

try {
  await main();
} catch (error) {
  const sentence = error instanceof Error ? error.message : String(error);
  process.stderr.write(`web-user-music cannot start: ${sentence}\n`);
  if (!(error instanceof ConfigError) && error instanceof Error && process.env.LOG_LEVEL === "debug") {
    process.stderr.write(`${error.stack}\n`);
  }
  process.exitCode = 1;
}
