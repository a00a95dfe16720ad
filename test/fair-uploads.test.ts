import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { assertNoFfmpegRuns, encodersOf } from "./support/ffmpeg.ts";
import { uploadRequest } from "./support/half-upload.ts";
import { connectRaw, type RawConnection } from "./support/raw-http.ts";
import { startService, type TestService } from "./support/service.ts";
import { until } from "./support/until.ts";
import { sineWav, wavFile } from "./support/wav-maker.ts";

const atWork = async () => await encodersOf(process.pid);
const clipAt = (sampleRateHz: number) => sineWav({ seconds: 10, channels: 1, sampleRateHz });

describe("nobody's upload starves another's", () => {
  const connections: RawConnection[] = [];
  let service: TestService;
  let client: ApiClient;

  async function start(settings: Readonly<Record<string, string>>) {
    service = await startService(settings);
    client = new ApiClient(service.url);
  }

  async function upload(user: Credentials, bytes: Buffer, sent = bytes.length): Promise<RawConnection> {
    const request = uploadRequest(user, bytes);
    const connection = await connectRaw(Number(new URL(service.url).port));
    connections.push(connection);
    void connection.send(request.bytes.subarray(0, request.fileStart + sent)).catch(() => {});
    return connection;
  }

  const users = new Map<string, Promise<Credentials>>();

  async function named(name: string): Promise<Credentials> {
    const user = users.get(name) ?? client.createUser(name);
    users.set(name, user);
    return await user;
  }

  beforeEach(() => {
    connections.length = 0;
    users.clear();
  });

  afterEach(async () => {
    for (const connection of connections) connection[Symbol.dispose]();
    await service[Symbol.asyncDispose]();
    await assertNoFfmpegRuns();
  });

  it.each([
    ["that must be resampled", { ENCODERS: "2" }, { sampleRateHz: 2000, bytes: 5e6 }, 2, 44_100],
    ["at an odd rate, at another one", { ENCODERS: "1" }, { sampleRateHz: 7919, bytes: 10e6 }, 7, 44_056],
    [
      "of many hours, more than may run",
      { ENCODERS: "1", MAX_UPLOADS: "2" },
      { sampleRateHz: 8000, bytes: 30e6 },
      4,
      44_100,
    ],
  ])("a clip is converted beside files %s", async (_kind, settings, { sampleRateHz, bytes }, count, clipRateHz) => {
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
    const answer = await client.uploadRecord(await client.createUser("Ann"), clipAt(clipRateHz));
    over.push("clip");
    expect([answer.status, over]).toEqual([200, ["clip"]]);
  });

  /** Sends the rest a few bytes at a time, until the connection is closed. */
  function trickle(connection: RawConnection, bytes: Buffer, bytesAtOnce: number, everyMs: number) {
    let sent = 0;
    const timer = setInterval(() => {
      void connection.send(bytes.subarray(sent, sent + bytesAtOnce));
      sent += bytesAtOnce;
      if (sent >= bytes.length || connection.socket.destroyed) clearInterval(timer);
    }, everyMs);
    connection.socket.once("close", () => clearInterval(timer));
  }

  it("uploads that trickle make room for one that does not, and hold few processes", async () => {
    const settings = { ENCODERS: "1", MAX_UPLOADS: "4", MAX_UPLOADS_PER_USER: "2" };
    await start({ ...settings, STALL_TIMEOUT_SECONDS: "6", QUEUE_TIMEOUT_SECONDS: "60" });
    const long = sineWav({ seconds: 20, channels: 1 });
    const slow = await Promise.all(
      [1, 2].flatMap((user) =>
        Array.from({ length: 8 }, async () => {
          const sent = 200_000;
          const connection = await upload(await named(`Slow ${user}`), long, sent);
          trickle(connection, long.subarray(sent), 1, 500);
          return connection;
        }),
      ),
    );
    await until(atWork, (children) => children.length >= 11);
    const few = await until(atWork, (children) => children.length <= 12);
    expect(few.length).toBeLessThanOrEqual(12);
    const answer = await client.uploadRecord(await client.createUser("Ann"), clipAt(44_100));
    expect(answer.status).toBe(200);
    const ended = await Promise.race(slow.map(async (connection) => await connection.answer()));
    expect(ended?.status).toBe(408);
    expect(ended?.body).toContain("UPLOAD_STALLED");
  });

  it("an upload below the minimum speed ends, but a recording that is sent while it is made does not", async () => {
    await start({ STALL_TIMEOUT_SECONDS: "3", MIN_UPLOAD_BYTES_PER_SECOND: "1000" });
    const ann = await client.createUser("Ann");
    const sound = sineWav({ seconds: 2, channels: 1, sampleRateHz: 8000, bits: 8 });
    const { bytes, fileStart } = uploadRequest(ann, sound);
    const [slow, live] = [await upload(ann, sound, 100), await upload(ann, sound, 100)];
    trickle(slow, bytes.subarray(fileStart + 100), 10, 100);
    trickle(live, bytes.subarray(fileStart + 100), 500, 100);
    const answers = [await slow.answer(), await live.answer()];
    expect(answers.map((answer) => answer?.status)).toEqual([408, 200]);
    expect(JSON.parse(answers[0]!.body)).toMatchObject({
      errors: [{ extensions: { code: "UPLOAD_STALLED", minBytesPerSecond: 1000 } }],
    });
  });
});
