import { deepStrictEqual } from "node:assert/strict";
import { once } from "node:events";
import { readFile, stat } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import { Upload } from "tus-js-client";
import { ApiClient, type Credentials } from "../test/support/api-client.ts";
import { chunkBytes } from "../src/record/mp3-chunks.ts";
import { median, type Figure } from "./support/figure.ts";
import { cpuSecondsWithChildren } from "./support/process-usage.ts";
import type { ServiceProcess } from "./support/service-process.ts";
import { uploadFile } from "./support/upload-client.ts";
import type { Workbench } from "./support/workbench.ts";

const megabyte = 1e6;

/** 20 Mbit/s, what a phone sends. */
const linkBytesPerSecond = 2.5e6;

/** The link breaks this often, and these breaks kill the replica, too. */
const cutEverySeconds = 4;
const isKill = (cut: number): boolean => cut === 3 || cut === 8;

const facts =
  "title durationSeconds sizeBytes channels sampleRateHz bitrateKbps warnings samplePeakDbfs truePeakDbtp sourceSha256 " +
  "tags { name value } loudness { integratedLufs rangeLu } chapters { title }";

/** Resumable uploads: one through a network that breaks and replicas that are killed, and what they cost when nothing breaks. */
export async function resumeFigures(bench: Workbench): Promise<Figure[]> {
  const seconds = bench.quick ? 60 : 600;
  const wav = await bench.music(seconds);
  const what = `${seconds / 60} min`;
  return [...(await costFigures(bench, wav, what)), ...(await breakFigures(bench, wav, what))];
}

/** CPU of a resumable upload in one request, beside that of `uploadRecord`, and the size of its checkpoints. */
async function costFigures(bench: Workbench, wav: string, what: string): Promise<Figure[]> {
  await using service = await bench.startService();
  const user = await new ApiClient(service.url).createUser();
  const cpuOf = async (task: () => Promise<unknown>): Promise<number> => {
    const before = await cpuSecondsWithChildren(service.pid);
    await task();
    return (await cpuSecondsWithChildren(service.pid)) - before;
  };
  const plain: number[] = [];
  const resumable: number[] = [];
  await using checkpoints = await watchCheckpoints(bench.databaseUrl);
  const bytes = await readFile(wav);
  for (let round = 0; round < 3; round++) {
    plain.push(await cpuOf(async () => await uploadFile(service.url, user, wav)));
    resumable.push(await cpuOf(async () => await sendResumable(bytes, service.url, user)));
  }
  return [
    {
      name: `${what} over loopback: CPU of a resumable upload`,
      value: median(resumable),
      unit: "s",
      reference: { name: "uploadRecord", value: median(plain) },
      goal: { of: "ratio", atMost: 1.06 },
    },
    {
      name: `${what}: largest checkpoint`,
      value: checkpoints.largest / 1000,
      unit: "kB",
      goal: { of: "value", atMost: 100 },
    },
  ];
}

/** Two replicas on one database behind a link that breaks. Its facts must be those of an upload in one request. */
async function breakFigures(bench: Workbench, wav: string, what: string): Promise<Figure[]> {
  const fileBytes = (await stat(wav)).size;
  const bytes = await readFile(wav);
  const replicas: (ServiceProcess | undefined)[] = [await bench.startService(), await bench.startService()];
  await using _stop = {
    [Symbol.asyncDispose]: async () =>
      void (await Promise.all(replicas.map(async (each) => await each?.[Symbol.asyncDispose]()))),
  };
  const client = new ApiClient(replicas[0]!.url);
  const user = await client.createUser();

  const timed = async (link: Link): Promise<{ readonly seconds: number; readonly recording: unknown }> => {
    const started = performance.now();
    const id = await sendResumable(bytes, link.url, user);
    const seconds = (performance.now() - started) / 1000;
    const alive = new ApiClient(replicas.find((each) => each !== undefined)!.url);
    const { data } = await alive.run(`query ($id: ID!) { record(id: $id) { ${facts} } }`, { id }, user);
    return { seconds, recording: data.record };
  };

  await using steady = await openLink(() => portOf(replicas[0]!));
  const whole = await timed(steady);

  let kills = 0;
  let next = 0;
  await using breaking = await openLink(() => {
    // In turn, those that live.
    for (;;) {
      next = (next + 1) % replicas.length;
      const replica = replicas[next];
      if (replica) return portOf(replica);
    }
  });
  let sending = true;
  const disturb = async (): Promise<void> => {
    for (let cut = 1; ; cut++) {
      await delay(cutEverySeconds * 1000);
      if (!sending) return;
      if (!isKill(cut)) {
        breaking.cut();
        continue;
      }
      const at = replicas.findIndex((each) => each && portOf(each) === breaking.busyPort);
      const victim = replicas[at];
      if (!victim) continue;
      kills += 1;
      replicas[at] = undefined;
      process.kill(victim.pid, "SIGKILL");
      replicas[at] = await bench.startService();
    }
  };
  const disturbing = disturb();
  const broken = await timed(breaking).finally(() => (sending = false));
  await disturbing;
  deepStrictEqual(broken.recording, whole.recording);

  // A row of the MP3 is lost with a replica: this many bytes of the file.
  const { sizeBytes } = broken.recording as { sizeBytes: number };
  const rowBytes = (chunkBytes / sizeBytes) * fileBytes;
  const allowed = 1.05 * fileBytes + kills * rowBytes;
  const disturbances = `${breaking.cuts} breaks and ${kills} kills at 2.5 MB/s`;
  return [
    {
      name: `${what} with ${disturbances}: bytes sent`,
      value: breaking.bytes / megabyte,
      unit: "MB",
      reference: { name: "file", value: fileBytes / megabyte },
      goal: { of: "ratio", atMost: Number((allowed / fileBytes).toFixed(3)) },
    },
    {
      name: `${what} with ${disturbances}: time`,
      value: broken.seconds,
      unit: "s",
      reference: { name: "undisturbed", value: whole.seconds },
      goal: { of: "ratio", atMost: 1.3 },
    },
  ];
}

/** Sends a file with tus-js-client, however often it has to go on. Returns the id of the recording. */
async function sendResumable(bytes: Buffer, service: string, user: Credentials): Promise<string> {
  const done = Promise.withResolvers<string>();
  const upload = new Upload(bytes, {
    endpoint: `${service}/uploads`,
    headers: { authorization: `Bearer ${user.token}` },
    metadata: { filename: "take.wav" },
    retryDelays: Array.from({ length: 1000 }, () => 100),
    onError: (error) => done.reject(error),
    onSuccess: ({ lastResponse }) => done.resolve(lastResponse.getBody()),
  });
  upload.start();
  // Empty if the last answer was lost. An empty request at the end of the file is answered like it.
  const body = (await done.promise) || (await answerAgain(upload.url!, bytes.length));
  return JSON.parse(body).data.upload.recording.id;
}

async function answerAgain(url: string, offset: number): Promise<string> {
  const headers = { "content-type": "application/offset+octet-stream", "upload-offset": String(offset) };
  return await (await fetch(url, { method: "PATCH", headers })).text();
}

function portOf({ url }: ServiceProcess): number {
  return Number(new URL(url).port);
}

interface Link extends AsyncDisposable {
  readonly url: string;
  /** Bytes that it has carried to the service. */
  readonly bytes: number;
  readonly cuts: number;
  /** The port to which it has last carried bytes. */
  readonly busyPort: number;
  /** Breaks all connections. */
  readonly cut: () => void;
}

/** A link of a limited speed to the port that `target` names for each connection. */
async function openLink(target: () => number): Promise<Link> {
  let [bytes, cuts, busyPort] = [0, 0, 0];
  let freeAt = performance.now();
  const sockets = new Set<Socket>();
  const server = createServer(async (client) => {
    const port = target();
    const upstream = connect(port, "127.0.0.1");
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        sockets.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
    upstream.pipe(client);
    try {
      for await (const piece of client) {
        freeAt = Math.max(freeAt, performance.now()) + (piece.length / linkBytesPerSecond) * 1000;
        bytes += piece.length;
        busyPort = port;
        if (!upstream.write(piece)) await once(upstream, "drain");
        const aheadMs = freeAt - performance.now();
        if (aheadMs > 1) await delay(aheadMs);
      }
    } catch {
      client.destroy();
    }
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address() as { port: number };
  const cut = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    url: `http://127.0.0.1:${address.port}`,
    get bytes() {
      return bytes;
    },
    get cuts() {
      return cuts;
    },
    get busyPort() {
      return busyPort;
    },
    cut() {
      cuts += 1;
      cut();
    },
    async [Symbol.asyncDispose]() {
      cut();
      server.close();
      await once(server, "close");
    },
  };
}

/** Looks at the checkpoints in the database, twice a second. */
async function watchCheckpoints(databaseUrl: string): Promise<AsyncDisposable & { readonly largest: number }> {
  const database = new Client(databaseUrl);
  await database.connect();
  let largest = 0;
  let looking: Promise<void> = Promise.resolve();
  const look = async (): Promise<void> => {
    const { rows } = await database.query(
      "select coalesce(max(octet_length(state)), 0) as bytes from resumable_upload",
    );
    largest = Math.max(largest, Number(rows[0].bytes));
  };
  const timer = setInterval(() => void (looking = looking.then(look)), 500);
  return {
    get largest() {
      return largest;
    },
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      await looking;
      await database.end();
    },
  };
}
