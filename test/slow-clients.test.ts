import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { uploadRequest } from "./support/half-upload.ts";
import { connectRaw } from "./support/raw-http.ts";
import { encodersOf } from "./support/ffmpeg.ts";
import { startService, type TestService } from "./support/service.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

const wav = sineWav({ seconds: 5, channels: 2 });

describe("clients that send next to nothing", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;

  beforeAll(async () => {
    service = await startService({ MAX_UPLOADS: "2", MAX_UPLOADS_PER_USER: "2" });
    client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  it.each([
    ["within the header", 20],
    ["after the first sound", 1044],
    ["in the middle", 300_000],
  ])("keep nobody from uploading, and those that pause %s still get their MP3", async (_where, sent) => {
    const { bytes, fileStart } = uploadRequest(ann, wav);
    const { port } = new URL(service.url);
    const slow = await Promise.all(
      [1, 2].map(async () => {
        const connection = await connectRaw(Number(port));
        await connection.send(bytes.subarray(0, fileStart + sent));
        return connection;
      }),
    );
    const bob = await client.createUser("Bob");
    expect((await client.uploadRecord(bob, wav)).status).toBe(200);
    expect((await client.uploadRecord(ann, wav)).status).toBe(200);
    const held = sent < 64 * 1024 ? 0 : 2;
    const encoders = await until(
      async () => await encodersOf(process.pid),
      ({ length }) => length === held,
    );
    expect(encoders).toHaveLength(held);
    for (const connection of slow) {
      await connection.send(bytes.subarray(fileStart + sent));
      expect((await connection.answer())!.status).toBe(200);
      connection[Symbol.dispose]();
    }
  });
});
