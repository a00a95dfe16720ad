import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { assertNoFfmpegRuns, ffmpegChildrenOf } from "./support/ffmpeg.ts";
import { uploadRequest } from "./support/half-upload.ts";
import { connectRaw, type RawConnection } from "./support/raw-http.ts";
import { startService, type TestService } from "./support/service.ts";
import { until } from "./support/until.ts";
import { sineWav, wavFile } from "./support/wav-maker.ts";

const atWork = async () => await ffmpegChildrenOf(process.pid);
const clip = sineWav({ seconds: 10, channels: 1 });

describe("nobody's upload starves another's", () => {
  const connections: RawConnection[] = [];
  let service: TestService;
  let client: ApiClient;

  async function start(settings: Readonly<Record<string, string>>) {
    service = await startService({ SHUTDOWN_GRACE_SECONDS: "1", ...settings });
    client = new ApiClient(service.url);
  }

  async function upload(user: Credentials, bytes: Buffer, sent = bytes.length): Promise<RawConnection> {
    const request = uploadRequest(user, bytes);
    const connection = await connectRaw(Number(new URL(service.url).port));
    connections.push(connection);
    void connection.send(request.bytes.subarray(0, request.fileStart + sent)).catch(() => {});
    return connection;
  }

  beforeEach(() => void (connections.length = 0));

  afterEach(async () => {
    for (const connection of connections) connection[Symbol.dispose]();
    await service[Symbol.asyncDispose]();
    await assertNoFfmpegRuns();
  });

  it.each([
    ["that must be resampled", { ENCODERS: "2" }, { sampleRateHz: 2000, bytes: 5e6 }, 2],
    ["at an odd rate", { ENCODERS: "1" }, { sampleRateHz: 7919, bytes: 10e6 }, 2],
    ["of many hours, more than may run", { ENCODERS: "1", MAX_UPLOADS: "2" }, { sampleRateHz: 8000, bytes: 30e6 }, 4],
  ])("a clip is converted beside files %s", async (_kind, settings, { sampleRateHz, bytes }, count) => {
    await start(settings);
    const long = wavFile({ format: { bits: 8, sampleRateHz, channels: 1 }, data: Buffer.alloc(bytes, 128) });
    const over: string[] = [];
    for (let i = 0; i < count; i++) {
      const connection = await upload(await client.createUser(`Long ${i}`), long);
      void connection.answer().then(
        () => over.push("long"),
        () => {},
      );
    }
    const encoders = Number(settings.ENCODERS);
    expect((await until(atWork, (children) => children.length >= encoders)).length).toBeGreaterThanOrEqual(encoders);
    const answer = await client.uploadRecord(await client.createUser("Ann"), clip);
    over.push("clip");
    expect([answer.status, over]).toEqual([200, ["clip"]]);
  });
});
