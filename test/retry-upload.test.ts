import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { createHash } from "node:crypto";
import { request as httpRequest } from "node:http";
import { Client } from "pg";
import { v4 as uuidv4 } from "uuid";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

describe("an upload with an idempotency key", () => {
  let service: TestService;
  let replica: TestService;
  let database: Client;
  let client: ApiClient;
  let ann: Credentials;
  const wav = sineWav({ seconds: 0.5 });

  beforeAll(async () => {
    service = await startService();
    replica = await startService({ DATABASE_URL: service.databaseUrl });
    database = new Client({ connectionString: service.databaseUrl });
    await database.connect();
    client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
  });

  afterAll(async () => {
    await database.end();
    await replica[Symbol.asyncDispose]();
    await service[Symbol.asyncDispose]();
  });

  const upload = async (
    key: string,
    more: { wav?: Buffer; fileName?: string; sha256?: string; via?: ApiClient } = {},
  ) =>
    await (more.via ?? client).uploadRecord(ann, more.wav ?? wav, {
      fileName: more.fileName ?? "take.wav",
      fields: "id url sourceSha256",
      declarations: ", $key: UUID, $sha256: String",
      args: ", idempotencyKey: $key, sourceSha256: $sha256",
      variables: { key, sha256: more.sha256 ?? null },
    });
  const outcome = ({ data }: Awaited<ReturnType<typeof upload>>) => data.uploadRecord;
  const rowsWith = async (key: string) =>
    (
      await database.query<{ id: string; state: string }>(
        "select id, state from audio_record where idempotency_key = $1",
        [key],
      )
    ).rows;

  it("returns the first recording again", async () => {
    const key = uuidv4();
    const first = outcome(await upload(key));
    const second = outcome(await upload(key.toUpperCase()));
    expect([first.created, second.created]).toEqual([true, false]);
    expect(second.record).toEqual(first.record);
    expect(await rowsWith(key)).toHaveLength(1);
  });

  it("stores one recording for fifty concurrent requests, on two replicas", async () => {
    const key = uuidv4();
    const other = new ApiClient(replica.url);
    const answers = await Promise.all(
      Array.from({ length: 50 }, async (_, at) => await upload(key, { via: at % 2 === 0 ? client : other })),
    );
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
    expect(answers.filter((answer) => outcome(answer).created)).toHaveLength(1);
    expect(new Set(answers.map((answer) => outcome(answer).record.id)).size).toBe(1);
    expect(await rowsWith(key)).toEqual([{ id: outcome(answers[0]!).record.id, state: "ready" }]);
  });

  it("is another upload for another user", async () => {
    const key = uuidv4();
    const first = outcome(await upload(key));
    const bob = await client.createUser("Bob");
    const { data } = await client.uploadRecord(bob, wav, { args: `, idempotencyKey: "${key}"` });
    expect(data.uploadRecord.created).toBe(true);
    expect(data.uploadRecord.record.id).not.toBe(first.record.id);
  });

  it("is a conflict with another file", async () => {
    const key = uuidv4();
    const { record } = outcome(await upload(key));
    const sameLength = sineWav({ seconds: 0.5, frequencyHz: 500 });
    for (const different of [
      { fileName: "else.wav" },
      { wav: sineWav({ seconds: 0.6 }) },
      { wav: sameLength },
      { wav: sameLength, sha256: createHash("sha256").update(sameLength).digest("hex") },
    ]) {
      const { status, data, errors } = await upload(key, different);
      expect([status, data]).toEqual([409, null]);
      expect(errors![0]!.extensions).toMatchObject({ code: "CONFLICT", recordId: record.id });
    }
  });

  it("recognises a retry with any multipart boundary and any other arguments", async () => {
    const key = uuidv4();
    const first = outcome(await upload(key));
    const retry = await begin(key);
    retry.finish();
    expect((await retry.answer).data.uploadRecord).toEqual({ created: false, record: { id: first.record.id } });
  });

  it("compares a large file by its name, without reading it", async () => {
    const key = uuidv4();
    const large = sineWav({ seconds: 200 });
    expect(large.length).toBeGreaterThan(16 * 1024 ** 2);
    const { record } = outcome(await upload(key));
    expect(outcome(await upload(key, { wav: large }))).toEqual({ created: false, record });
    const sha256 = createHash("sha256").update(large).digest("hex");
    expect((await upload(key, { wav: large, sha256 })).status).toBe(409);
  });

  it("is refused if the file that arrives is not the announced one", async () => {
    const key = uuidv4();
    const { status, errors } = await upload(key, { sha256: "ab".repeat(32) });
    expect([status, errors![0]!.extensions.code]).toEqual([400, "BAD_USER_INPUT"]);
    expect(await rowsWith(key)).toEqual([]);
    const sha256 = createHash("sha256").update(wav).digest("hex").toUpperCase();
    expect(outcome(await upload(key, { sha256 })).created).toBe(true);
    expect((await upload(uuidv4(), { sha256: "12" })).errors![0]!.extensions.code).toBe("BAD_USER_INPUT");
  });

  it("frees the key when it fails", async () => {
    const key = uuidv4();
    const broken = Buffer.alloc(wav.length, "x");
    expect((await upload(key, { wav: broken })).status).toBe(415);
    expect(outcome(await upload(key)).created).toBe(true);
  });

  /** Starts an upload and sends everything except the last bytes. */
  const begin = async (key: string, url = service.url) => {
    const query = `mutation ($file: Upload!) { uploadRecord(file: $file, idempotencyKey: "${key}") { created record { id } } }`;
    const form = new FormData();
    form.set("operations", JSON.stringify({ query, variables: { file: null } }));
    form.set("map", JSON.stringify({ 0: ["variables.file"] }));
    form.set("0", new Blob([new Uint8Array(wav)]), "take.wav");
    const encoded = new Response(form);
    const body = Buffer.from(await encoded.arrayBuffer());
    const { promise: answer, resolve, reject } = Promise.withResolvers<any>();
    const headers = {
      authorization: `Bearer ${ann.token}`,
      "apollo-require-preflight": "true",
      "content-type": encoded.headers.get("content-type")!,
      "content-length": body.length,
    };
    const request = httpRequest(`${url}/graphql`, { method: "POST", headers }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (piece: string) => (text += piece));
      response.on("end", () => resolve(JSON.parse(text)));
    });
    request.on("error", reject);
    answer.catch(() => {});
    request.write(body.subarray(0, -100));
    return { answer, finish: () => request.end(body.subarray(-100)), cut: () => request.destroy() };
  };
  const receivingRow = async (key: string): Promise<string> => {
    for (;;) {
      const [row] = await rowsWith(key);
      if (row) return row.id;
    }
  };

  it("waits for the first request", async () => {
    const key = uuidv4();
    const first = await begin(key);
    const id = await receivingRow(key);
    const second = await begin(key, replica.url);
    first.finish();
    second.finish();
    expect((await first.answer).data.uploadRecord).toEqual({ created: true, record: { id } });
    expect((await second.answer).data.uploadRecord).toEqual({ created: false, record: { id } });
  });

  it("takes over if the first request's connection is lost", async () => {
    const key = uuidv4();
    const first = await begin(key);
    const lost = await receivingRow(key);
    const second = await begin(key, replica.url);
    second.finish();
    first.cut();
    const { created, record } = (await second.answer).data.uploadRecord;
    expect(created).toBe(true);
    expect(record.id).not.toBe(lost);
    expect(await rowsWith(key)).toEqual([{ id: record.id, state: "ready" }]);
  });

  it("is told to retry if the first takes too long", async () => {
    await using impatient = await startService({ DATABASE_URL: service.databaseUrl, QUEUE_TIMEOUT_SECONDS: "0" });
    const key = uuidv4();
    const first = await begin(key);
    await receivingRow(key);
    const { errors } = await (await begin(key, impatient.url)).answer;
    expect(errors[0].extensions).toMatchObject({ code: "BUSY", retryAfterSeconds: 10 });
    first.cut();
  });
});
