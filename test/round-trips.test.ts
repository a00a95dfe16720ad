import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "@jest/globals";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { SentStatements, startServiceWithoutIntervals } from "./support/sent-statements.ts";
import type { TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

/** Each statement is a round trip to the database. The service promises these numbers. */
describe("database round trips", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;
  let sent: SentStatements;

  beforeAll(async () => {
    service = await startServiceWithoutIntervals();
    client = new ApiClient(service.url);
    ann = await client.createUser();
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  beforeEach(() => {
    sent = new SentStatements(service.server.database.pool);
  });

  afterEach(() => {
    sent[Symbol.dispose]();
  });

  /** Uploads a recording, whose MP3 has 12 kB per second. */
  async function upload(seconds: number): Promise<{ id: string; url: string; sizeBytes: number }> {
    const wav = sineWav({ seconds, channels: 1, sampleRateHz: 22_050 });
    const { data } = await client.uploadRecord(ann, wav, { fields: "id url sizeBytes owner { name }" });
    return data.uploadRecord.record;
  }

  it("takes one to create a user with a token", async () => {
    await client.createUser();
    expect(sent.take()).toHaveLength(1);
  });

  it("takes one more for dozens of new users, for what new users may write", async () => {
    for (let made = 0; made < 30; made++) await client.createUser();
    const statements = sent.take();
    expect(statements.filter((statement) => statement.includes('insert into "app_user"'))).toHaveLength(30);
    expect(statements.length).toBeLessThanOrEqual(31);
  });

  it("takes one to find out who is calling, however often it is asked", async () => {
    await client.run("{ me { id } again: me { name createdAt } }", {}, ann);
    expect(sent.take()).toEqual([
      expect.stringMatching(/from "access_token" inner join "app_user" .*"sha256" = \$\d/s),
    ]);
  });

  it.each([
    [1, 0],
    [3, 1],
    [100, 2],
    [190, 3],
  ])(
    "takes three for an upload and one for each chunk of one that is not short: %d s in %d",
    async (seconds, chunks) => {
      const { pool } = service.server.database;
      await pool.query("update app_user set quota_bytes = 0, quota_seconds = 0, quota_records = 0 where id = $1", [
        ann.id,
      ]);
      sent.take();
      await upload(seconds);
      expect(sent.take()).toEqual([
        expect.stringMatching(/from "access_token" inner join "app_user"/),
        expect.stringMatching(/^with "verdict" as .*insert into "audio_record".*set_config/s),
        ...Array.from({ length: chunks }, () => expect.stringMatching(/^insert into "mp3_chunk"/)),
        expect.stringMatching(/^with "verdict" as .*\(update "audio_record" set/s),
      ]);
    },
  );

  it("takes no more within a quota, and none to count what a new user writes", async () => {
    const bob = await client.createUser("Bob");
    sent.take();
    expect((await client.uploadRecord(bob, sineWav({ seconds: 100, channels: 1, sampleRateHz: 22_050 }))).status).toBe(
      200,
    );
    expect(sent.take()).toEqual([
      expect.stringMatching(/from "access_token" inner join "app_user"/),
      expect.stringMatching(/^with "verdict" as .*charge_allowance.*insert into "audio_record".*set_config/s),
      ...Array.from({ length: 2 }, () => expect.stringMatching(/^with "charged" as .*insert into "mp3_chunk"/s)),
      expect.stringMatching(/^with "verdict" as .*\(update "audio_record" set/s),
    ]);
  });

  it("takes two to read a record", async () => {
    const { id } = await upload(1);
    sent.take();
    const { data } = await client.run(
      "query ($id: ID!) { record(id: $id) { id url title durationSeconds tags { name } owner { name } } }",
      { id },
      ann,
    );
    expect(data.record.id).toBe(id);
    expect(sent.take()).toHaveLength(2);
  });

  it("takes one for a link and one for each row that its range touches", async () => {
    const { url, sizeBytes } = await upload(190);
    sent.take();
    await (await fetch(url, { method: "HEAD" })).arrayBuffer();
    expect(sent.take()).toHaveLength(1);
    const end = await fetch(url, { headers: { range: `bytes=${sizeBytes - 1000}-` } });
    await end.arrayBuffer();
    expect(sent.take()).toHaveLength(2);
    await (await fetch(url)).arrayBuffer();
    expect(sent.take()).toHaveLength(1 + 1 + 3);
  });
});
