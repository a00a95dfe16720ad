import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { readFile } from "node:fs/promises";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { Client } from "pg";
import { openDatabase, type Database } from "../src/database/database.ts";
import { tables } from "../src/orm-options.ts";
import { createLogger } from "../src/telemetry/logger.ts";
import { ApiClient } from "./support/api-client.ts";
import { startService } from "./support/service.ts";
import { spawnService } from "./support/service-process.ts";
import { startDatabaseProxy } from "./support/database-proxy.ts";
import { createEmptyDatabase, createTestDatabase } from "./support/test-database.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

const logger = createLogger({ logLevel: "silent" });
const open = async (url: string): Promise<Database> =>
  await openDatabase(url, { poolSize: 2, timeoutSeconds: 5, tables }, logger);
const failure = async (url: string): Promise<string> =>
  await open(url).then(
    async (database) => {
      await database[Symbol.asyncDispose]();
      return "it was opened";
    },
    (error: Error) => error.message,
  );

describe("a database that was set up by somebody else", () => {
  const role = `role_${crypto.randomUUID().slice(0, 8)}`;
  let server: Client;

  beforeAll(async () => {
    server = new Client({ connectionString: process.env.TEST_POSTGRES_URL });
    await server.connect();
    await server.query(`create role ${role} login`);
  });

  afterAll(async () => {
    await server.query(`drop role ${role}`);
    await server.end();
  });

  /** Creates a database that the role owns, and returns its address for that role. */
  async function databaseOf(options: { template?: string; grants?: string; settings?: readonly string[] } = {}) {
    const name = `test_${crypto.randomUUID().replaceAll("-", "")}`;
    await server.query(`create database ${name} ${options.template ?? ""}`);
    for (const setting of options.settings ?? []) await server.query(`alter database ${name} set ${setting}`);
    const url = new URL(process.env.TEST_POSTGRES_URL!);
    url.pathname = `/${name}`;
    if (options.grants) {
      const admin = new Client({ connectionString: url.href });
      await admin.connect();
      await admin.query(options.grants);
      await admin.end();
    }
    const adminUrl = url.href;
    url.username = role;
    return {
      name,
      url: url.href,
      adminUrl,
      [Symbol.asyncDispose]: async () => void (await server.query(`drop database ${name} with (force)`)),
    };
  }

  it("may have its own formats of dates, numbers and strings", async () => {
    await using database = await databaseOf({
      grants: `grant create on schema public to ${role}`,
      settings: [
        "datestyle = 'German'",
        "timezone = 'Asia/Kathmandu'",
        "intervalstyle = 'sql_standard'",
        "extra_float_digits = -15",
        "standard_conforming_strings = off",
        "bytea_output = 'escape'",
        "default_transaction_isolation = 'serializable'",
      ],
    });
    await using service = await startService({ DATABASE_URL: database.url });
    const client = new ApiClient(service.url);
    const before = Date.now() - 1000;
    const ann = await client.createUser("Ann");
    const { data } = await client.uploadRecord(ann, sineWav({ seconds: 1 }));
    const { data: later } = await client.run(
      `{ record(id: "${data.uploadRecord.record.id}") { createdAt durationSeconds owner { createdAt tokens { createdAt lastUsedAt } } } }`,
      {},
      ann,
    );
    const { createdAt, owner } = later.record;
    for (const time of [createdAt, owner.createdAt, owner.tokens[0].createdAt, owner.tokens[0].lastUsedAt]) {
      expect(Date.parse(time)).toBeGreaterThan(before);
      expect(Date.parse(time)).toBeLessThan(Date.now() + 1000);
    }
    expect(later.record.durationSeconds).toBe(1);
    expect((await fetch(`${service.url}/record?id=${data.uploadRecord.record.id}&user=${ann.id}`)).status).toBe(200);
  });

  it("is refused with what to do if its encoding lacks letters", async () => {
    await using database = await databaseOf({ template: "encoding 'LATIN1' locale 'C' template template0" });
    expect(await failure(database.url)).toBe(
      `The database ${database.name} has the encoding LATIN1, which cannot store most of the world's letters. ` +
        `Create one with: create database "${database.name}" encoding 'UTF8' template template0;`,
    );
  });

  it("may have its tables in a schema that only its search path names", async () => {
    await using database = await databaseOf({
      grants: `create schema music authorization ${role}`,
      settings: ["search_path = music"],
    });
    await using service = await startService({ DATABASE_URL: database.url });
    expect((await new ApiClient(service.url).createUser("Ann")).id).toBe("1");
    await using again = await open(database.url);
    expect(await again.isMigrated()).toBe(true);
  });

  it("is refused with what to do if its user may not create tables, and works when an owner has created them", async () => {
    // By default, PostgreSQL 14 allows this to everybody.
    await using database = await databaseOf({ grants: "revoke create on schema public from public" });
    expect(await failure(database.url)).toBe(
      `PostgreSQL at ${address()} cannot be used: permission denied for schema public. The user ${role} may not create ` +
        `tables there. As the owner of the database ${database.name}, run: grant create on schema public to "${role}"; ` +
        "or let an owner start the service once.",
    );
    await using _owner = await open(database.adminUrl);
    await using admin = await connected(database.adminUrl);
    await admin.client.query(`grant select, insert, update, delete on all tables in schema public to ${role}`);
    await admin.client.query(`grant usage on all sequences in schema public to ${role}`);
    await using service = await startService({ DATABASE_URL: database.url });
    expect((await new ApiClient(service.url).createUser("Ann")).id).toBe("1");
  });

  it("is refused with what to do if it is read-only", async () => {
    await using database = await databaseOf({ settings: ["default_transaction_read_only = on"] });
    expect(await failure(database.url)).toBe(
      `PostgreSQL at ${address()} cannot be used: it does not accept writes. It is a standby, or set ` +
        "to be read-only. Use an address that leads to the primary.",
    );
  });

  it("is refused with what to do if it does not exist, or if the user is unknown", async () => {
    const url = new URL(process.env.TEST_POSTGRES_URL!);
    url.pathname = "/not_there";
    expect(await failure(url.href)).toContain(
      `database "not_there" does not exist. Create the database: create database "not_there" encoding 'UTF8' template template0;`,
    );
    url.username = "nobody_known";
    expect(await failure(url.href)).toContain(
      "It refuses the user nobody_known. Check the user and the password in DATABASE_URL.",
    );
  });

  it("is told apart from another program at its address", async () => {
    await using stack = new AsyncDisposableStack();
    const other = createServer((socket) => socket.on("error", () => {}).end("HTTP/1.1 400 Bad Request\r\n\r\n")).listen(
      0,
      "127.0.0.1",
    );
    stack.defer(() => void other.close());
    await once(other, "listening");
    const { port } = other.address() as AddressInfo;
    expect(await failure(`postgresql://ann:secret@127.0.0.1:${port}/music`)).toMatch(
      new RegExp(`^PostgreSQL at 127.0.0.1:${port} cannot be used: (?!.*secret).+`),
    );
  });

  it("changes no file of the checkout, even if it has other tables", async () => {
    const snapshot = new URL("../../src/migrations/.snapshot.json", import.meta.url);
    const before = await readFile(snapshot, "utf8");
    await using database = await createEmptyDatabase();
    await using admin = await connected(database.url);
    await admin.client.query("create table somebody_elses (id int primary key, name text)");
    await using _opened = await open(database.url);
    expect(await readFile(snapshot, "utf8")).toBe(before);
  });

  it("makes the service unready while it is read-only, as after a failover", async () => {
    await using database = await createTestDatabase();
    await using service = await startService({ DATABASE_URL: database.url });
    expect((await fetch(`${service.url}/readyz`)).status).toBe(200);
    const client = new ApiClient(service.url);
    const ann = await client.createUser();
    await using admin = await connected(database.url);
    const name = new URL(database.url).pathname.slice(1);
    await admin.client.query(`alter database ${name} set default_transaction_read_only = on`);
    await admin.client.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()",
      [name],
    );
    expect(await readiness(service.url, 503)).toMatchObject({
      status: "unavailable",
      checks: { database: "the database is read-only" },
    });
    expect((await client.run("{ me { id } }", {}, ann)).data).toEqual({ me: { id: ann.id } });
    for (const change of ['createToken(name: "x") { token }', 'updateUser(name: "Bob") { user { id } }']) {
      const { status, errors } = await client.run(`mutation { ${change} }`, {}, ann);
      expect([status, errors![0]!.extensions.code]).toEqual([503, "DATABASE_UNAVAILABLE"]);
    }
    await admin.client.query("set default_transaction_read_only = off");
    await admin.client.query(`alter database ${name} reset default_transaction_read_only`);
    await admin.client.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()",
      [name],
    );
    expect(await readiness(service.url, 200)).toMatchObject({ status: "ok" });
  });

  it("gives every connection of its role the planner's costs for disks without moving parts", async () => {
    await using database = await databaseOf({ grants: `grant create on schema public to ${role}` });
    await using _opened = await open(database.url);
    await using plain = await connected(database.url);
    const { rows } = await plain.client.query("show random_page_cost");
    expect(rows).toEqual([{ random_page_cost: "1.1" }]);
  });

  it("frees what a replica has locked that fell silent in the middle of a transaction", async () => {
    await using database = await createTestDatabase();
    await using proxy = await startDatabaseProxy(database.url);
    await using healthy = await startService({ DATABASE_URL: database.url });
    const options = { poolSize: 2, timeoutSeconds: 2, tables };
    await using partitioned = await openDatabase(proxy.url, options, logger);
    const client = new ApiClient(healthy.url);
    const ann = await client.createUser("Ann");
    const locked = Promise.withResolvers<void>();
    const transaction = partitioned.em.transactional(async (em) => {
      await em.execute("select from app_user where id = ? for no key update", [ann.id]);
      proxy.silence();
      locked.resolve();
      await em.execute("select 1");
    });
    transaction.catch(() => {});
    await locked.promise;
    expect((await client.uploadRecord(ann, sineWav({ seconds: 1 }))).errors).toBeUndefined();
    await expect(transaction).rejects.toThrow(/Connection terminated|timeout/);
  });

  it("ends a statement that nobody waits for any more, so that a lock takes no further connections", async () => {
    await using database = await createTestDatabase();
    await using service = await startService({
      DATABASE_URL: database.url,
      DATABASE_TIMEOUT_SECONDS: "1",
      DATABASE_POOL_SIZE: "4",
    });
    const client = new ApiClient(service.url);
    const ann = await client.createUser("Ann");
    await using admin = await connected(database.url);
    await admin.client.query("begin; lock table audio_record in access exclusive mode");
    const endsAt = performance.now() + 4000;
    let most = 0;
    await using observer = await connected(database.url);
    const observe = async () => {
      while (performance.now() < endsAt) {
        const { rows } = await observer.client.query(
          "select count(*)::int as backends from pg_stat_activity " +
            "where datname = current_database() and backend_type = 'client backend'",
        );
        most = Math.max(most, rows[0].backends);
      }
    };
    const askers = Array.from({ length: 12 }, async () => {
      while (performance.now() < endsAt) {
        const { errors } = await client.run("{ me { records { totalCount } } }", {}, ann);
        expect(errors?.[0]?.extensions.code).toMatch(/^(DATABASE_UNAVAILABLE|BUSY)$/);
      }
    });
    await Promise.all([observe(), ...askers]);
    expect(most).toBeGreaterThan(3);
    expect(most).toBeLessThanOrEqual(2 + 4);
    await admin.client.query("rollback");
    const { data } = await client.run("{ me { records { totalCount } } }", {}, ann);
    expect(data.me.records.totalCount).toBe(0);
  });
});

/** Address of the tests' server, in the form in which the service prints it. */
function address(): string {
  const { hostname, port } = new URL(process.env.TEST_POSTGRES_URL!);
  const host = decodeURIComponent(hostname);
  return host.startsWith("/") ? host : `${host}:${port || 5432}`;
}

async function connected(url: string) {
  const client = new Client({ connectionString: url });
  client.on("error", () => {});
  await client.connect();
  return { client, [Symbol.asyncDispose]: async () => await client.end() };
}

/** Repeats the request until the response has this status. The service remembers a result for a second. */
async function readiness(url: string, status: number): Promise<unknown> {
  for (;;) {
    const answer = await fetch(`${url}/readyz`);
    if (answer.status === status) return await answer.json();
    await answer.body?.cancel();
  }
}

it("a start that waits for another process that applies migrations says so, and goes on afterwards", async () => {
  await using database = await createTestDatabase();
  const other = new Client({ connectionString: database.url });
  await other.connect();
  await other.query("select pg_advisory_lock(7263501)");
  const { child, ended } = spawnService({ DATABASE_URL: database.url });
  const log: string[] = [];
  createInterface({ input: child.stdout! }).on("line", (line) => log.push(line));
  const isLogged = async (text: string): Promise<boolean> =>
    await until(
      async () => log.some((line) => line.includes(text)),
      (found) => found,
    );
  try {
    expect(await isLogged('"level":40')).toBe(true);
    expect(log.at(-1)).toContain('"msg":"waiting for another process that applies migrations"');
    await other.end();
    expect(await isLogged("Server listening")).toBe(true);
  } finally {
    child.kill("SIGTERM");
    await ended;
  }
});
