import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { afterAll, afterEach, beforeAll, expect, it } from "@jest/globals";
import { Client } from "pg";
import { ApiClient } from "./support/api-client.ts";
import { needs } from "./support/needs.ts";
import { programEnv } from "./support/service-process.ts";
import { until } from "./support/until.ts";
import { createTestDatabase } from "./support/test-database.ts";
import { sineWav } from "./support/wav-maker.ts";

const program = join(import.meta.dirname, "../src/main.js");
const readProjectFile = async (name: string): Promise<string> =>
  await readFile(join(import.meta.dirname, "../..", name), "utf8");
const { scripts } = JSON.parse(await readProjectFile("package.json")) as { scripts: Record<string, string> };
/** The Node.js options of `npm start`. */
const flags = / exec node (.+) dist\/src\/main\.js$/.exec(scripts["start"]!)![1]!.split(" ");

let folder: string;
let dataDir: string;
let children: ChildProcess[];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "service-process-"));
  // If run as root, PostgreSQL runs as another user, who must be able to enter.
  await chmod(folder, 0o711);
  dataDir = join(folder, "data");
  children = [];
});

afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) await stop(child, "SIGTERM");
  }
});

afterAll(async () => {
  await rm(folder, { recursive: true });
});

it("says what it started: its address, PostgreSQL and its data, ffmpeg, and a line to try", async () => {
  const service = await start();
  expect(service.said).toEqual([
    expect.stringMatching(/^web-user-music listens on http:\/\/localhost:\d+$/),
    expect.stringMatching(/^PostgreSQL 18\.\d+, embedded, data in .+service-process-.+data$/),
    expect.stringMatching(
      /^ffmpeg \S+, (installed by npm|from .+), (confined|with access to network and files, because .+) \(\/.+\)$/,
    ),
    expect.stringMatching(/^Registration is open: .+ \d+ MiB a day in their first 31 days \(REGISTRATION\)$/),
    expect.stringMatching(/^Try: curl .+createUser/),
  ]);
});

needs("curl", () => {
  it("suggests a command that works when it is pasted", async () => {
    const { said } = await start();
    const line = said.at(-1)!.slice("Try: ".length);
    const pasted = spawn("sh", ["-c", line], { stdio: ["ignore", "pipe", "ignore"] });
    expect(JSON.parse(await text(pasted.stdout))).toMatchObject({ data: { createUser: { user: { id: "1" } } } });
  });
});

it("keeps users and records when it is stopped and started, and when it is killed and started", async () => {
  const first = await start();
  const client = new ApiClient(first.url);
  const ann = await client.createUser("Ann");
  const { data } = await client.uploadRecord(ann, sineWav({ seconds: 1 }));
  const { id, url }: { id: string; url: string } = data.uploadRecord.record;
  const mp3 = await download(url);
  expect(await stop(first.child, "SIGTERM")).toEqual([0, null]);

  const second = await start();
  expect(await download(second.url + url.slice(first.url.length))).toEqual(mp3);
  expect(await stop(second.child, "SIGKILL")).toEqual([null, "SIGKILL"]);

  const third = await start();
  expect(await download(third.url + url.slice(first.url.length))).toEqual(mp3);
  const { data: later } = await new ApiClient(third.url).run(`{ record(id: "${id}") { owner { name } } }`, {}, ann);
  expect(later.record.owner.name).toBe("Ann");
});

it("shuts down cleanly when Ctrl-C arrives twice, from the terminal and from npm", async () => {
  const { child, output } = await start();
  const stopping = output.waitFor((line) => line.includes("stopping"));
  child.kill("SIGINT");
  await stopping;
  expect(await stop(child, "SIGINT")).toEqual([0, null]);
});

it("shuts down cleanly when Ctrl-C arrives while the first database is created, and starts afterwards", async () => {
  const env = { PATH: process.env.PATH, DATA_DIR: join(folder, "new"), HOST: "127.0.0.1", PORT: "0" };
  // The service has its own process group, which gets the signal as a whole, as from a terminal.
  const child = spawn(process.execPath, [...flags, program], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  children.push(child);
  const said = text(child.stderr);
  await readOutput(child).waitFor((line) => line.includes("Creating a new database"));
  const begun = () => existsSync(join(env.DATA_DIR, `postgres.new-${child.pid}`, "base"));
  expect(await until(begun, (answer) => answer)).toBe(true);
  const ended = once(child, "exit");
  process.kill(-child.pid!, "SIGINT");
  expect(await ended).toEqual([0, null]);
  // initdb may or may not have finished by then.
  expect(["", "web-user-music was stopped while it was starting.\n"]).toContain(await said);

  const next = launch({ DATA_DIR: env.DATA_DIR });
  await readOutput(next).waitFor((line) => line.startsWith("Try: "));
  expect(await stop(next, "SIGTERM")).toEqual([0, null]);
});

it("says that it was stopped when Ctrl-C arrives while it waits for the database", async () => {
  await using silent = createServer((socket) => socket.on("error", () => {}).resume()).listen(0, "127.0.0.1");
  const asked = once(silent, "connection");
  await once(silent, "listening");
  const { port } = silent.address() as AddressInfo;
  const child = launch({ DATABASE_URL: `postgresql://ann@127.0.0.1:${port}/music`, DATABASE_TIMEOUT_SECONDS: "1" });
  const said = text(child.stderr!);
  await asked;
  expect(await stop(child, "SIGINT")).toEqual([0, null]);
  expect(await said).toBe("web-user-music was stopped while it was starting.\n");
});

it("says that it was stopped when SIGTERM arrives while another process applies migrations", async () => {
  await using database = await createTestDatabase();
  const other = new Client({ connectionString: database.url });
  await other.connect();
  try {
    await other.query("begin; select pg_advisory_xact_lock(7263501)"); // as in database.ts
    const child = launch({ DATABASE_URL: database.url });
    const said = text(child.stderr!);
    await readOutput(child).waitFor((line) => line.includes("waiting for another process that applies migrations"));
    expect(await stop(child, "SIGTERM")).toEqual([0, null]);
    expect(await said).toBe("web-user-music was stopped while it was starting.\n");
  } finally {
    await other.end();
  }
});

it("refuses a data folder that another service uses, and a port that another program uses, and says what to do", async () => {
  const { child } = await start();
  expect(await failure({})).toBe(
    `web-user-music cannot start: Another service (process ${child.pid}) uses the data folder ${dataDir}. ` +
      "Stop it, or give this one its own DATA_DIR.\n",
  );
  await stop(child, "SIGTERM");

  await using other = createServer().listen(0, "127.0.0.1");
  await once(other, "listening");
  const { port } = other.address() as AddressInfo;
  expect(await failure({ PORT: `${port}` })).toBe(
    `web-user-music cannot start: Port ${port} is used by another program. Stop it, or set PORT to another port.\n`,
  );
});

it.each([
  [{ PORT: "x", QUALITY: "BEST" }, /^PORT must be an integer from 0 to 65535; QUALITY must be one of .+$/],
  [
    { FFMPEG_PATH: "/nowhere/ffmpeg" },
    /^The ffmpeg at \/nowhere\/ffmpeg \(from FFMPEG_PATH\) does not run \(ENOENT\)\.$/,
  ],
  [
    { DATABASE_URL: "postgresql://nobody@localhost:1/nothing" },
    /^PostgreSQL at localhost:1 cannot be used: connect ECONNREFUSED .+ Check that it is running and that the address is right\.$/,
  ],
])("ends with exit code 1 and one sentence for %j", async (settings, sentence) => {
  const [beginning, ...rest] = (await failure(settings)).split(/(?<=cannot start: )/);
  expect(beginning).toBe("web-user-music cannot start: ");
  expect(rest.join("").trimEnd()).toMatch(sentence);
});

it("reads the database's password from a file, and says which file it cannot read", async () => {
  const file = join(folder, "password");
  await writeFile(file, "not needed here\n");
  const url = new URL(process.env.TEST_POSTGRES_URL!);
  await using database = await createTestDatabase();
  url.pathname = new URL(database.url).pathname;
  const child = launch({ DATABASE_URL: url.href, DATABASE_PASSWORD_FILE: file });
  await readOutput(child).waitFor((line) => line.startsWith("Try: "));
  expect(await stop(child, "SIGTERM")).toEqual([0, null]);
  expect(await failure({ DATABASE_URL: url.href, DATABASE_PASSWORD_FILE: "/nowhere/password" })).toBe(
    "web-user-music cannot start: DATABASE_PASSWORD_FILE names a file that the service cannot read: /nowhere/password (ENOENT)\n",
  );
});

it("names lines of the TypeScript in stack traces, in the image as by npm start", async () => {
  const said = await failure({ FFMPEG_PATH: "/nowhere/ffmpeg", LOG_LEVEL: "debug" });
  expect(said).toMatch(/^ +at .*\/src\/server\.ts:\d+:\d+\)?$/m);
  const [, command] = /^CMD (\[.+\])$/m.exec((await readProjectFile("Dockerfile")).split("HEALTHCHECK")[1]!) ?? [];
  expect(JSON.parse(command!)).toEqual(["node", ...flags, "dist/src/main.js"]);
});

interface RunningService {
  readonly child: ChildProcess;
  readonly url: string;
  /** The lines of its start message. */
  readonly said: readonly string[];
  readonly output: Output;
}

interface Output {
  /** All lines so far. */
  readonly lines: readonly string[];
  /** Resolves at the first line that fits; rejects when the output ends before. */
  waitFor(fits: (line: string) => boolean): Promise<void>;
}

function launch(settings: Readonly<Record<string, string>>): ChildProcess {
  const env = { ...programEnv, DATA_DIR: dataDir, HOST: "127.0.0.1", PORT: "0", ...settings };
  const child = spawn(process.execPath, [...flags, program], { env, stdio: ["ignore", "pipe", "pipe"] });
  children.push(child);
  return child;
}

async function start(): Promise<RunningService> {
  const child = launch({});
  const output = readOutput(child);
  await output.waitFor((line) => line.startsWith("Try: "));
  const said = output.lines.filter((line) => !line.startsWith("{"));
  return { child, url: said[0]!.slice(said[0]!.indexOf("http")), said, output };
}

/** Its standard error, after it has ended with exit code 1. */
async function failure(settings: Readonly<Record<string, string>>): Promise<string> {
  const child = launch(settings);
  const [said, [code]] = await Promise.all([text(child.stderr!), once(child, "exit"), text(child.stdout!)]);
  expect(code).toBe(1);
  return said;
}

function readOutput(child: ChildProcess): Output {
  const lines: string[] = [];
  const reader = createInterface({ input: child.stdout! }).on("line", (line) => lines.push(line));
  const waitFor = async (fits: (line: string) => boolean) =>
    await new Promise<void>((resolve, reject) => {
      reader.on("line", (line) => fits(line) && resolve());
      reader.once("close", () => reject(new Error(`the service ended: ${lines.join("\n")}`)));
    });
  return { lines, waitFor };
}

/** Its exit code and the signal that ended it. */
async function stop(child: ChildProcess, signal: NodeJS.Signals): Promise<unknown[]> {
  const ended = once(child, "exit");
  child.kill(signal);
  return await ended;
}

async function download(url: string): Promise<Buffer> {
  const response = await fetch(url);
  expect(response.status).toBe(200);
  return Buffer.from(await response.arrayBuffer());
}
