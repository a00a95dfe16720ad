import { afterAll, beforeAll, beforeEach, describe, expect, it } from "@jest/globals";
import { DownloadTally } from "../src/link/download-tally.ts";
import { createLogger } from "../src/telemetry/logger.ts";
import { openDatabase, type Database } from "../src/database/database.ts";
import { tables } from "../src/orm-options.ts";
import { ApiClient } from "./support/api-client.ts";
import { startDatabaseProxy, type DatabaseProxy } from "./support/database-proxy.ts";
import { SentStatements, startServiceWithoutIntervals } from "./support/sent-statements.ts";
import type { TestService } from "./support/service.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

describe("the tally of downloads", () => {
  const logger = createLogger({ logLevel: "silent" });
  let service: TestService;
  let proxy: DatabaseProxy;
  let database: Database;
  let links: string[];

  beforeAll(async () => {
    service = await startServiceWithoutIntervals();
    proxy = await startDatabaseProxy(service.databaseUrl);
    database = await openDatabase(proxy.url, { poolSize: 2, timeoutSeconds: 5, tables }, logger);
  });

  afterAll(async () => {
    await database[Symbol.asyncDispose]();
    await proxy[Symbol.asyncDispose]();
    await service[Symbol.asyncDispose]();
  });

  beforeEach(async () => {
    const client = new ApiClient(service.url);
    const ann = await client.createUser();
    const { data } = await client.uploadRecord(ann, sineWav({ seconds: 0.1 }));
    links = [];
    for (let made = 0; made < 3; made++) {
      const create = "mutation ($recordId: ID!) { createLink(recordId: $recordId) { link { id } } }";
      const made = await client.run(create, { recordId: data.uploadRecord.record.id }, ann);
      links.push(made.data.createLink.link.id);
    }
  });

  const downloads = async (): Promise<number[]> => {
    const { rows } = await service.server.database.pool.query(
      "select downloads from share_link where id = any($1) order by array_position($1, id)",
      [links],
    );
    return rows.map((row) => row.downloads as number);
  };

  it("writes many downloads of many links with one statement", async () => {
    await using tally = new DownloadTally(database.em, logger);
    using sent = new SentStatements(database.pool);
    for (let count = 0; count < 100; count++) tally.add(links[count % 2]!);
    expect(await until(downloads, ([first]) => first! > 0)).toEqual([50, 50, 0]);
    expect(sent.take()).toHaveLength(1);
  });

  it("writes what is left when the service stops", async () => {
    {
      await using tally = new DownloadTally(database.em, logger);
      tally.add(links[2]!);
    }
    expect(await downloads()).toEqual([0, 0, 1]);
  });

  it("keeps what it could not write, and writes it when the database is back", async () => {
    await using tally = new DownloadTally(database.em, logger);
    using sent = new SentStatements(database.pool);
    proxy.lose("statement", 1, { forGood: true });
    tally.add(links[0]!);
    expect(await until(() => proxy.lost, Boolean)).toBe(true);
    tally.add(links[1]!);
    proxy.restore();
    expect(await until(downloads, ([, second]) => second! > 0)).toEqual([1, 1, 0]);
    expect(sent.take().length).toBeGreaterThan(1);
  });

  it("takes no notice of links that were revoked meanwhile", async () => {
    await using tally = new DownloadTally(database.em, logger);
    tally.add(crypto.randomUUID());
    tally.add(links[0]!);
    expect(await until(downloads, ([first]) => first! > 0)).toEqual([1, 0, 0]);
  });
});
