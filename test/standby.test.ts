import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { Client, type Pool } from "pg";
import { pino } from "pino";
import { Standby, type StandbyOutcome } from "../src/database/standby.ts";
import { readConfig } from "../src/settings/config.ts";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { startDatabaseProxy, type DatabaseProxy } from "./support/database-proxy.ts";
import { needs } from "./support/needs.ts";
import { startService, type TestService } from "./support/service.ts";
import { startSystemPostgres, type SystemPostgres } from "./support/system-postgres.ts";
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from "./support/test-database.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

interface Upload {
  readonly id: string;
  readonly url: string;
}

/** A service that reads from a standby, and what it says about that. */
class Reader {
  readonly service: TestService;
  readonly #client: ApiClient;
  #ann: Credentials | undefined;

  constructor(service: TestService) {
    this.service = service;
    this.#client = new ApiClient(service.url);
  }

  async upload(seconds: number): Promise<Upload> {
    this.#ann ??= await this.#client.createUser("Ann");
    const wav = sineWav({ seconds, channels: 2 });
    const { data } = await this.#client.uploadRecord(this.#ann, wav, { args: ", quality: HIGH" });
    return data.uploadRecord.record;
  }

  /** Rows that the standby was asked for, since the last call. */
  async outcomes(): Promise<Record<string, number>> {
    const text = await (await fetch(this.service.server.metricsUrl!)).text();
    const lines = text.matchAll(/^web_user_music_standby_rows_total\{outcome="(\w+)"\} (\d+)$/gm);
    const now = Object.fromEntries([...lines].map(([, outcome, count]) => [outcome!, Number(count)]));
    const since = Object.entries(now).map(([name, count]): [string, number] => [name, count - (this.#seen[name] ?? 0)]);
    this.#seen = now;
    return Object.fromEntries(since.filter(([, count]) => count > 0));
  }
  #seen: Record<string, number> = {};
}

async function download({ url }: Upload): Promise<Buffer> {
  const answer = await fetch(url);
  expect(answer.status).toBe(200);
  return Buffer.from(await answer.arrayBuffer());
}

needs("PostgreSQL's programs", () => {
  describe("with a streaming standby", () => {
    let primary: SystemPostgres;
    let standby: SystemPostgres;
    let reader: Reader;

    beforeAll(async () => {
      primary = await startSystemPostgres("");
      await primary.run(`createdb --maintenance-db="${primary.urlOf("postgres")}" music`);
      standby = await startSystemPostgres("", async ({ dataFolder }) => {
        const from = primary.urlOf("postgres");
        await primary.run(
          `pg_basebackup --dbname="${from}" --pgdata="$PGDATA.copy" --checkpoint=fast --write-recovery-conf`,
        );
        await primary.run(`mv "$PGDATA.copy" "${dataFolder}"`);
      });
      const urls = { DATABASE_URL: primary.urlOf("music"), DATABASE_READ_URL: standby.urlOf("music") };
      reader = new Reader(await startService({ ...urls, METRICS_PORT: "0" }));
    });

    afterAll(async () => {
      await reader.service[Symbol.asyncDispose]();
      await standby[Symbol.asyncDispose]();
      await primary[Symbol.asyncDispose]();
    });

    const ask = async (server: SystemPostgres, sql: string): Promise<string> =>
      (await server.run(`psql -Atc "${sql}" "${server.urlOf("music")}"`)).trim();

    const untilCaughtUp = async (): Promise<void> => {
      const position = await ask(primary, "select pg_current_wal_lsn()");
      const behind = `select pg_last_wal_replay_lsn() < '${position}'`;
      await until(
        async () => await ask(standby, behind),
        (answer) => answer === "f",
      );
    };

    it("reads the rows of an MP3 from it, byte for byte, and from the primary what it does not have yet", async () => {
      await untilCaughtUp();
      await ask(standby, "select pg_wal_replay_pause()");
      await until(
        async () => await ask(standby, "select pg_get_wal_replay_pause_state()"),
        (state) => state === "paused",
      );
      const record = await reader.upload(40);
      const bytes = await download(record);
      expect(await reader.outcomes()).toEqual({ missing: 3 });
      await ask(standby, "select pg_wal_replay_resume()");
      await untilCaughtUp();
      expect((await download(record)).equals(bytes)).toBe(true);
      expect(await reader.outcomes()).toEqual({ read: 3 });
    });

    it("reads from the primary when it is stopped, and stays ready", async () => {
      const record = await reader.upload(1);
      await untilCaughtUp();
      const bytes = await download(record);
      expect(await reader.outcomes()).toEqual({ read: 2 });
      await standby.stop("immediate");
      expect((await download(record)).equals(bytes)).toBe(true);
      // Two rows are read at the same time. What comes after a failure does not wait for another.
      expect(await reader.outcomes()).toEqual({ failed: expect.any(Number) });
      expect((await download(record)).equals(bytes)).toBe(true);
      expect(await reader.outcomes()).toEqual({});
      expect((await fetch(`${reader.service.url}/readyz`)).status).toBe(200);
    });
  });
});

describe("with a standby that has failures of its own", () => {
  let database: TestDatabase;
  let stub: TestDatabase;
  let proxy: DatabaseProxy;
  let reader: Reader;

  beforeAll(async () => {
    database = await createTestDatabase();
    stub = await createEmptyDatabase();
    proxy = await startDatabaseProxy(stub.url);
    const urls = { DATABASE_URL: database.url, DATABASE_READ_URL: proxy.url };
    reader = new Reader(await startService({ ...urls, METRICS_PORT: "0" }));
  });

  afterAll(async () => {
    await reader.service[Symbol.asyncDispose]();
    await proxy[Symbol.asyncDispose]();
    await stub[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
  });

  async function onStub(sql: string): Promise<void> {
    const client = new Client({ connectionString: stub.url });
    await client.connect();
    await client.query(sql);
    await client.end();
  }

  it("reads from the primary what it had to give up in order to follow its primary, and asks it again", async () => {
    await onStub(
      `create function conflict() returns uuid language plpgsql as $$ begin
         raise 'canceling statement due to conflict with recovery' using errcode = '40001'; end $$;
       create view audio_record as select conflict() as id, 'ready' as state;
       create view mp3_chunk as select conflict() as record_id, n as position, ''::bytea as bytes
         from generate_series(0, 9) as n`,
    );
    const record = await reader.upload(1);
    const bytes = await download(record);
    expect(bytes.subarray(0, 3).toString()).toBe("ID3");
    await download(record);
    expect(await reader.outcomes()).toEqual({ failed: 4 });
  });

  it("reads nothing from it of a recording that it does not have as ready, because its rows may have been replaced", async () => {
    await onStub(
      `drop function conflict cascade;
       create table audio_record (id uuid, state text);
       create table mp3_chunk (record_id uuid, position int, bytes bytea)`,
    );
    const record = await reader.upload(1);
    const bytes = await download(record);
    expect(await reader.outcomes()).toEqual({ missing: 2 });
    const { rows } = await reader.service.server.database.pool.query<{ position: number; length: number }>(
      "select position, length(bytes) from mp3_chunk where record_id = $1",
      [record.id],
    );
    const older = rows.map(
      ({ position, length }) => `('${record.id}', ${position}, decode(repeat('00', ${length}), 'hex'))`,
    );
    await onStub(
      `insert into audio_record values ('${record.id}', 'receiving'); insert into mp3_chunk values ${older.join()}`,
    );
    expect((await download(record)).equals(bytes)).toBe(true);
    expect(await reader.outcomes()).toEqual({ missing: 2 });
    await onStub("update audio_record set state = 'ready'");
    expect((await download(record)).equals(Buffer.alloc(bytes.length))).toBe(true);
    expect(await reader.outcomes()).toEqual({ read: 2 });
  });

  it("does not wait for one that is silent more than once", async () => {
    const record = await reader.upload(1);
    proxy.silence();
    const [one, other] = await Promise.all([download(record), download(record)]);
    expect(one.equals(other)).toBe(true);
    await reader.outcomes();
    expect((await download(record)).equals(one)).toBe(true);
    expect(await reader.outcomes()).toEqual({});
  });

  const { signal } = new AbortController();
  const one = async (pool: Pool): Promise<boolean> => (await pool.query("select 1")).rowCount === 1;

  it("is read again, by everybody, when it is back", async () => {
    proxy.restore();
    const outcomes: StandbyOutcome[] = [];
    const options = { poolSize: 2, pauseMs: 2000, onOutcome: (outcome: StandbyOutcome) => void outcomes.push(outcome) };
    await using standby = new Standby(proxy.url, options, pino({ enabled: false }));
    proxy.cut();
    expect(await standby.has(one, signal)).toBe(false);
    const askTwice = async () => await Promise.all([standby.has(one, signal), standby.has(one, signal)]);
    await until(
      async () => (await askTwice()) && outcomes.length,
      (tries) => tries > 1,
    );
    expect(outcomes).toEqual(["failed", "failed"]); // one of the two tried
    proxy.restore();
    expect(await standby.has(one, signal)).toBe(false); // it is not asked yet
    await until(
      async () => await standby.has(one, signal),
      (found) => found,
    );
    expect(await Promise.all([standby.has(one, signal), standby.has(one, signal)])).toEqual([true, true]);
    expect(outcomes).toEqual(["failed", "failed", "read", "read", "read"]);
  });

  it("is read by the next one after a read that got no connection, because all were in use", async () => {
    await using standby = new Standby(stub.url, { poolSize: 1 }, pino({ enabled: false }));
    const pools: Pool[] = [];
    await standby.has(async (pool) => pools.push(pool) === 1, signal);
    const client = await pools[0]!.connect();
    expect(await standby.has(one, signal)).toBe(false);
    client.release();
    expect(await standby.has(one, signal)).toBe(true);
  });
});

it("goes with a DATABASE_URL, and with the same password", () => {
  const read = (env: Record<string, string>) => readConfig(env).databaseReadUrl;
  const DATABASE_URL = "postgresql://ann@primary/music";
  const DATABASE_READ_URL = "postgresql://ann@standby/music";
  expect(read({ DATABASE_URL, DATABASE_READ_URL })).toBe(DATABASE_READ_URL);
  const both = { DATABASE_URL, DATABASE_READ_URL, DATABASE_PASSWORD: "p#" };
  expect(read(both)).toBe("postgresql://ann:p%23@standby/music");
  expect(() => read({ DATABASE_READ_URL })).toThrow("DATABASE_READ_URL goes with a DATABASE_URL");
  const unnamed = { ...both, DATABASE_READ_URL: "postgresql://standby/music" };
  expect(() => read(unnamed)).toThrow("DATABASE_PASSWORD goes with a DATABASE_READ_URL that names a user");
});
