import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from "@prometheus-io/client";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { Metrics, MetricSources } from "./metrics.ts";

const prefix = "web_user_music_";
const seconds = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
const statementSeconds = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10];

/** Metrics for Prometheus, and the server from which it fetches them. */
export interface PrometheusMetrics extends Metrics, AsyncDisposable {
  /** The address of `GET /metrics`. */
  readonly url: string;
  /** Sets what the gauges ask. Until then, they are not among the metrics. */
  watch(sources: MetricSources): void;
}

/**
 * Listens on a port of its own, so that who may read the metrics is a question of the network.
 * @throws {Error} with a sentence for the operator
 */
export async function startPrometheusMetrics(options: { host: string; port: number }): Promise<PrometheusMetrics> {
  const register = new Registry();
  collectDefaultMetrics({ register });
  const metrics = recorder(register);
  let collecting: Promise<string> | undefined;
  const server = createServer((request, response) => {
    if (request.url?.split("?", 1)[0] !== "/metrics" || request.method !== "GET") {
      response.writeHead(404).end();
      return;
    }
    // Any number of requests at once cost one collection.
    collecting ??= register.metrics().finally(() => (collecting = undefined));
    collecting.then(
      (text) => response.writeHead(200, { "content-type": register.contentType }).end(text),
      () => response.writeHead(500).end(),
    );
  });
  server.maxConnections = 32;
  server.listen(options);
  await once(server, "listening").catch((cause: unknown) => {
    throw new Error(`METRICS_PORT ${options.port} cannot be used (${String(cause)}).`, { cause });
  });
  return {
    ...metrics,
    url: `http://127.0.0.1:${portOf(server)}/metrics`,
    watch: (sources) => watch(register, sources),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    },
  };
}

function portOf(server: Server): number | undefined {
  const address = server.address();
  return typeof address === "object" ? address?.port : undefined;
}

function recorder(register: Registry): Metrics {
  const registers = [register];
  const histogram = (name: string, help: string, buckets = seconds) =>
    new Histogram({ name: prefix + name, help, buckets, registers });
  const counter = <Label extends string>(name: string, help: string, ...labelNames: Label[]) =>
    new Counter({ name: prefix + name, help, labelNames, registers });
  const requests = new Histogram({
    name: `${prefix}http_request_seconds`,
    help: "From a request to the end of its answer, without uploads.",
    labelNames: ["route", "method", "status"],
    buckets: seconds,
    registers,
  });
  const portions = counter("portions_total", "Portions of resumable uploads, by the status of the answer.", "status");
  const uploads = counter("uploads_total", "Uploads that ended: stored, again, or an error code.", "outcome");
  const waits = histogram("upload_wait_seconds", "Time that uploads waited for a slot.");
  const tails = histogram("upload_tail_seconds", "From the last byte of a file to the end of its conversion.");
  const bytes = counter("bytes_total", "Bytes: wav received, mp3 stored, mp3 sent.", "what");
  const sound = counter("sound_seconds_total", "Seconds of sound stored.");
  const firstBytes = histogram("download_first_byte_seconds", "From the request of a download to its first byte.");
  const downloads = counter("downloads_total", "Downloads that ended: complete or cut.", "outcome");
  const statements = histogram("database_seconds", "Statements.", statementSeconds);
  const failures = counter("database_errors_total", "Statements that failed, by class or code.", "class");
  const standbyRows = counter(
    "standby_rows_total",
    "Rows that a standby was asked for: read, missing, failed.",
    "outcome",
  );
  const s3 = new Histogram({
    name: `${prefix}s3_seconds`,
    help: "Operations of S3, until the answer begins.",
    labelNames: ["operation"],
    buckets: seconds,
    registers,
  });
  const s3Failures = counter(
    "s3_errors_total",
    "Operations of S3 that failed, by S3's code or the failure's name.",
    "code",
  );
  const swept = counter("swept_records_total", "Recordings of dead uploads that this process deleted.");
  return {
    requestAnswered: (labels, took) => requests.observe(labels, took),
    portionAnswered: (status) => portions.inc({ status }),
    uploadEnded: (outcome) => uploads.inc({ outcome }),
    uploadWaited: (took) => waits.observe(took),
    uploadAnswered: (took) => tails.observe(took),
    recordStored: ({ wavBytes, mp3Bytes, soundSeconds }) => {
      bytes.inc({ what: "wav_received" }, wavBytes);
      bytes.inc({ what: "mp3_stored" }, mp3Bytes);
      sound.inc(soundSeconds);
    },
    downloadBegan: (took) => firstBytes.observe(took),
    downloadEnded: (outcome, sent) => {
      downloads.inc({ outcome });
      bytes.inc({ what: "mp3_sent" }, sent);
    },
    recordsSwept: (count) => swept.inc(count),
    statementEnded: (took, failure) => {
      statements.observe(took);
      if (failure !== undefined) failures.inc({ class: failure });
    },
    standbyAsked: (outcome) => standbyRows.inc({ outcome }),
    s3Answered: (operation, took, failure) => {
      s3.observe({ operation }, took);
      if (failure !== undefined) s3Failures.inc({ code: failure });
    },
  };
}

function watch(register: Registry, sources: MetricSources): void {
  const gauge = (name: string, help: string, read: () => number | Promise<number>) =>
    new Gauge({
      name: prefix + name,
      help,
      registers: [register],
      async collect() {
        this.set(await read());
      },
    });
  gauge("uploads_in_progress", "Uploads under way, also those whose client is slow.", () => sources.uploads().underWay);
  gauge("uploads_waiting", "Uploads that wait for a slot or an encoder.", () => sources.uploads().waiting);
  gauge("encoder_places", "Encoders that may run at the same time.", () => sources.encoders().places);
  gauge("encoder_places_taken", "Encoders in use.", () => sources.encoders().taken);
  gauge("children_cpu_seconds", "CPU time of encoders that have ended.", cpuSecondsOfEndedChildren);
  gauge("database_connections_idle", "Open connections that are free.", () => sources.connections().idle);
  gauge("database_connections_busy", "Connections in use.", () => sources.connections().busy);
  gauge("database_waiting", "Statements that wait for a connection.", () => sources.connections().waiting);
  gauge("lease_renewal_age_seconds", "Time since the leases of uploads were renewed.", sources.leaseAgeSeconds);
  gauge("objects_waiting", "Objects of deleted recordings that are not deleted yet.", sources.objectsWaiting);
  gauge("stopping", "1 while the service stops.", () => Number(sources.isStopping()));
}

/** Clock ticks a second, which are the same on every Linux that Node supports. */
const ticksPerSecond = 100;

/** From fields 16 and 17 of `/proc/self/stat` (proc(5)), which `process_cpu_seconds_total` leaves out; 0 elsewhere. */
async function cpuSecondsOfEndedChildren(): Promise<number> {
  const stat = await readFile("/proc/self/stat", "utf8").catch(() => "");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[13] ?? 0) + Number(fields[14] ?? 0)) / ticksPerSecond;
}
