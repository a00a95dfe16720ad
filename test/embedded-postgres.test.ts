import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, watch, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "@jest/globals";
import { Client } from "pg";
import { startEmbeddedPostgres, type EmbeddedPostgres } from "../src/database/embedded/embedded-postgres.ts";
import { needsSystem } from "./support/needs.ts";
import { listProcesses } from "./support/processes.ts";

const ownerProgram = join(dirname(fileURLToPath(import.meta.url)), "support", "embedded-postgres-owner.js");
const noLog = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

interface OwnerAnswer {
  readonly url?: string;
  readonly error?: string;
}

/** A data folder that was started once. Most tests copy it, which is faster than creating one. */
let template: string;
let parent: string;
let dataDir: string;
let children: ChildProcess[];

beforeAll(async () => {
  template = await makeParent();
  await (await startEmbeddedPostgres({ dataDir: join(template, "data"), log: noLog }))[Symbol.asyncDispose]();
});

afterAll(async () => {
  await rm(template, { recursive: true });
});

beforeEach(async () => {
  parent = await makeParent();
  dataDir = join(parent, "data");
  children = [];
});

afterEach(async () => {
  for (const child of children) await killHard(child);
  const left = (await listProcesses()).filter(({ args }) => args.includes(parent));
  if (left.length > 0) throw new Error(`Still running: ${JSON.stringify(left)}`);
  await rm(parent, { recursive: true, force: true });
});

it("creates a database that listens only on a private socket and stores what it commits", async () => {
  await using server = await start();
  const settings = await query(
    server.url,
    `SELECT current_setting('listen_addresses') AS addresses, current_setting('fsync') AS fsync,
      current_setting('synchronous_commit') AS commit, current_setting('data_checksums') AS checksums,
      current_setting('server_encoding') AS encoding, upper('ä') AS upper`,
  );
  expect(settings).toEqual([
    { addresses: "", fsync: "on", commit: "on", checksums: "on", encoding: "UTF8", upper: "Ä" },
  ]);
  expect((await stat(join(dataDir, "socket"))).mode & 0o077).toBe(0);
  expect({ version: server.version, dataDir: server.dataDir }).toEqual({
    version: expect.stringMatching(/^\d+\.\d+$/),
    dataDir,
  });
});

it("keeps the data across a stop and a start, and leaves no process and no socket when it stops", async () => {
  await useTemplate();
  let stopped: number;
  {
    await using first = await start();
    await query(first.url, "CREATE TABLE song (title text)", "INSERT INTO song VALUES ('Für Elise')");
    stopped = await postmasterPid();
  }
  expect(await isAlive(stopped)).toBe(false);
  expect((await readdir(dataDir)).toSorted()).toEqual(["postgres", "service.lock"]);

  await using second = await start();
  expect(await query(second.url, "SELECT title FROM song")).toEqual([{ title: "Für Elise" }]);
});

it("puts the socket elsewhere when the path of the data folder is too long for one", async () => {
  dataDir = join(parent, "a folder, with 100% odd \"characters'", "x".repeat(100), "data");
  await useTemplate();
  let socketFolder: string;
  {
    await using server = await start();
    expect(await query(server.url, "SELECT 1 AS one")).toEqual([{ one: 1 }]);
    socketFolder = decodeURIComponent(new URL(server.url).hostname);
    expect(socketFolder).not.toContain(dataDir);
  }
  expect(existsSync(socketFolder)).toBe(false);
});

it("works in a folder with odd characters in its name", async () => {
  dataDir = join(parent, "Künstler, \"100%\" 'wahr'@#?");
  await useTemplate();
  await using server = await start();
  expect(await query(server.url, "SELECT 1 AS one")).toEqual([{ one: 1 }]);
});

it("refuses a second service on the folder, naming the first, which continues", async () => {
  await useTemplate();
  const { child, url } = await startOwner();
  await expect(start()).rejects.toThrow(`Another service (process ${child.pid}) uses the data folder`);
  expect(await query(url, "SELECT 1 AS one")).toEqual([{ one: 1 }]);
  child.kill("SIGTERM");
  expect(await once(child, "exit")).toEqual([0, null]);
});

it("gives an empty folder to exactly one of three services that start at the same instant", async () => {
  const owners = await Promise.all([launchOwner(), launchOwner(), launchOwner()]);
  const errors = owners.map(({ answer }) => answer.error).filter((error) => error !== undefined);
  expect(errors).toEqual([expect.stringContaining("Another service"), expect.stringContaining("Another service")]);
  const winner = owners.find(({ answer }) => answer.url !== undefined);
  winner?.child.kill("SIGTERM");
  expect(winner && (await once(winner.child, "exit"))).toEqual([0, null]);
});

describe("after kill -9 of the service", () => {
  it.each<[string, (postmaster: number, url: string) => Promise<void>]>([
    ["is left running", async () => {}],
    ["is left stopped (SIGSTOP)", async (pid) => void process.kill(pid, "SIGSTOP")],
    [
      "is killed too, while a worker goes on",
      async (pid, url) => {
        // A busy worker does not notice that its postmaster has ended.
        const client = new Client({ connectionString: url });
        client.on("error", () => {});
        await client.connect();
        client.query("SELECT count(*) FROM generate_series(1, 1e12::bigint)").catch(() => {});
        await killPids(pid);
      },
    ],
    [
      "is killed too and its pid file was half written",
      async (pid) => {
        await killAll(pid);
        await writeFile(pidFile(), String(pid).slice(0, 1));
      },
    ],
    [
      "is killed too and its pid belongs to another program now",
      async (pid) => {
        await killAll(pid);
        const { uid, gid } = await stat(join(dataDir, "postgres"));
        const other = spawn("sleep", ["1000"], { uid, gid, cwd: "/" });
        children.push(other);
        await writeFile(pidFile(), (await readFile(pidFile(), "utf8")).replace(String(pid), String(other.pid)));
      },
    ],
  ])("starts again and has lost nothing committed when its server %s", async (_, damage) => {
    await useTemplate();
    const { child, url } = await startOwner();
    const postmaster = await postmasterPid();
    await query(url, "CREATE TABLE chunk (number int, bytes bytea STORAGE EXTERNAL)");
    let committed = 0;
    const writing = (async () => {
      const client = new Client({ connectionString: url });
      client.on("error", () => {});
      await client.connect();
      for (; committed < 100; committed++) {
        await client.query("INSERT INTO chunk VALUES ($1, $2)", [committed, Buffer.alloc(65_536, committed)]);
        if (committed === 20) child.kill("SIGKILL");
      }
      await client.end();
    })();
    await once(child, "exit");
    await writing;
    await damage(postmaster, url);

    await using server = await start();
    expect(await isAlive(postmaster)).toBe(false);
    expect(await query(server.url, "SELECT count(*)::int AS count, sum(length(bytes))::int AS sum FROM chunk")).toEqual(
      [{ count: committed, sum: committed * 65_536 }],
    );
  });

  it("starts again after it was killed while it created the database", async () => {
    await mkdir(dataDir);
    const seen = (async () => {
      for await (const { filename } of watch(dataDir)) if (filename?.startsWith("postgres.new")) return;
    })();
    const child = spawnOwner();
    await seen;
    await killHard(child);
    expect(existsSync(join(dataDir, "postgres"))).toBe(false);

    await using server = await start();
    expect(await query(server.url, "SELECT 1 AS one")).toEqual([{ one: 1 }]);
  });
});

it("brings the server back when it is killed under the running service, with all that was committed", async () => {
  await useTemplate();
  await using server = await start();
  await query(server.url, "CREATE TABLE song (title text)", "INSERT INTO song VALUES ('Clair de lune')");
  const killed = await postmasterPid();
  process.kill(killed, "SIGKILL");
  expect(await eventually(async () => await query(server.url, "SELECT title FROM song"))).toEqual([
    { title: "Clair de lune" },
  ]);
  expect(await postmasterPid()).not.toBe(killed);
});

it("gives up with the reason when the server cannot stay alive", async () => {
  await useTemplate();
  await using server = await start();
  await writeFile(join(dataDir, "postgres", "postgresql.conf"), "no_such_setting = on\n");
  process.kill(await postmasterPid(), "SIGKILL");
  expect((await server.exited).message).toContain("no_such_setting");
});

it("brings the server back when the disk has room again, however long that takes", async () => {
  await useTemplate();
  const starts: string[] = [];
  const log = { ...noLog, error: (message: string) => void starts.push(message) };
  await using server = await startEmbeddedPostgres({ dataDir, log });
  await query(server.url, "CREATE TABLE song (title text)", "INSERT INTO song VALUES ('Clair de lune')");
  // The server repeats the name of the missing file in its message, as if a disk were full.
  const settings = join(dataDir, "postgres", "postgresql.conf");
  const usual = await readFile(settings);
  await writeFile(settings, "include = 'No space left on device'\n");
  process.kill(await postmasterPid(), "SIGKILL");
  await eventually(async () => {
    // After five, it would give up for another reason.
    if (starts.length < 6) throw new Error("not tried often enough yet");
  });
  await writeFile(settings, usual);
  expect(await eventually(async () => await query(server.url, "SELECT title FROM song"))).toEqual([
    { title: "Clair de lune" },
  ]);
});

it("refuses data of another major version of PostgreSQL, and a folder that holds none", async () => {
  await useTemplate();
  await (await start())[Symbol.asyncDispose]();
  await writeFile(join(dataDir, "postgres", "PG_VERSION"), "14\n");
  await expect(start()).rejects.toThrow(/was created by PostgreSQL 14, and this is PostgreSQL \d+/);
  await rm(join(dataDir, "postgres", "PG_VERSION"));
  await expect(start()).rejects.toThrow("does not contain a PostgreSQL database");
});

it("says so if the data folder cannot be created", async () => {
  await writeFile(dataDir, "a file");
  dataDir = join(dataDir, "below");
  await expect(start()).rejects.toThrow("Choose another DATA_DIR");
});

needsSystem("the rights of root", process.getuid?.() === 0, () => {
  it("runs as another user when root starts it, and says what to do when that user has no access", async () => {
    await useTemplate();
    {
      await using server = await start();
      expect(await query(server.url, "SELECT 1 AS one")).toEqual([{ one: 1 }]);
      expect((await stat(`/proc/${await postmasterPid()}`)).uid).not.toBe(0);
    }
    await chmod(parent, 0o700);
    await expect(start()).rejects.toThrow(/PostgreSQL does not run as root but as user \w+, who may not enter/);
  });
});

async function makeParent(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "embedded-postgres-"));
  await chmod(folder, 0o755);
  return folder;
}

async function useTemplate(): Promise<void> {
  await mkdir(dirname(dataDir), { recursive: true });
  await collect(spawn("cp", ["-Rp", join(template, "data"), dataDir]));
}

async function start(): Promise<EmbeddedPostgres> {
  return await startEmbeddedPostgres({ dataDir, log: noLog });
}

function spawnOwner(): ChildProcess {
  const child = spawn(process.execPath, [ownerProgram, dataDir], { stdio: ["ignore", "pipe", "ignore"] });
  children.push(child);
  return child;
}

async function launchOwner(): Promise<{ child: ChildProcess; answer: OwnerAnswer }> {
  const child = spawnOwner();
  if (child.stdout === null) throw new Error("stdout is not a pipe");
  const [line]: string[] = await once(createInterface({ input: child.stdout }), "line");
  const answer: OwnerAnswer = JSON.parse(line ?? "{}");
  return { child, answer };
}

async function startOwner(): Promise<{ child: ChildProcess; url: string }> {
  const { child, answer } = await launchOwner();
  if (answer.url === undefined) throw new Error(answer.error);
  return { child, url: answer.url };
}

async function query(connectionString: string, ...statements: string[]): Promise<unknown> {
  const client = new Client({ connectionString });
  client.on("error", () => {});
  await client.connect();
  try {
    let rows: unknown;
    for (const statement of statements) ({ rows } = await client.query(statement));
    return rows;
  } finally {
    await client.end();
  }
}

function pidFile(): string {
  return join(dataDir, "postgres", "postmaster.pid");
}

async function postmasterPid(): Promise<number> {
  return Number.parseInt(await readFile(pidFile(), "utf8"), 10);
}

async function isAlive(pid: number): Promise<boolean> {
  return (await listProcesses()).some((running) => running.pid === pid);
}

async function killHard(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGKILL");
  await once(child, "exit");
}

async function killPids(...pids: number[]): Promise<void> {
  await eventually(async () => {
    for (const pid of pids) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has ended already.
      }
    }
    if ((await listProcesses()).some(({ pid }) => pids.includes(pid))) throw new Error("still running");
  });
}

/** Kills the postmaster and its workers at once, like a power failure. */
async function killAll(postmaster: number): Promise<void> {
  const workers = (await listProcesses()).filter(({ parentPid }) => parentPid === postmaster);
  await killPids(postmaster, ...workers.map(({ pid }) => pid));
}

async function collect(child: ChildProcess): Promise<string> {
  let output = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => (output += text));
  await once(child, "close");
  return output;
}

/** Repeats a check until it succeeds. Processes of another program start and end without an event. */
async function eventually<T>(attempt: () => Promise<T>, deadline = Date.now() + 30_000): Promise<T> {
  try {
    return await attempt();
  } catch (error) {
    if (Date.now() > deadline) throw error;
    await delay(50);
    return await eventually(attempt, deadline);
  }
}
