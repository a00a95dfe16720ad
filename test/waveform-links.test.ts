import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

// Looking up a global is slow in Jest's sandbox, and these are used in loops over samples.
const { abs, floor, max, min, sin, PI } = Math;

describe("the waveform behind a link", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;
  let record: { id: string; waveformUrl: string };

  beforeAll(async () => {
    service = await startService();
    client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
    record = await upload(20);
  });

  afterAll(async () => await service[Symbol.asyncDispose]());

  async function upload(seconds: number): Promise<{ id: string; waveformUrl: string }> {
    const wav = sineWav({ seconds, sampleRateHz: 48_000, channels: 1, frequencyHz: 7, amplitude: 0.5 });
    return (await client.uploadRecord(ann, wav, { fields: "id waveformUrl" })).data.uploadRecord.record;
  }

  async function at(url: string, parameters = "") {
    const answer = await fetch(url + parameters);
    return { status: answer.status, etag: answer.headers.get("etag"), waveform: await answer.json() };
  }

  it.each([
    ["", 512, 1875],
    ["&samplesPerPixel=512", 512, 1875],
    ["&samplesPerPixel=256", 256, 3750],
    ["&samplesPerPixel=1", 256, 3750],
    ["&samplesPerPixel=511", 256, 3750],
    ["&samples_per_pixel=4097", 4096, 235],
    ["&samplesPerPixel=16777216", 1_048_576, 1],
  ])("with %s has points of %i samples", async (parameters, samplesPerPixel, length) => {
    const { waveform } = await at(record.waveformUrl, parameters);
    expect(waveform).toMatchObject({ version: 2, sample_rate: 48_000, samples_per_pixel: samplesPerPixel, length });
    expect(waveform.data).toHaveLength(2 * length);
    // Points have the extremes of their own samples of the sine. Some of them are checked.
    const wrong = (waveform.data as number[]).filter((value, i) => {
      if (i % 97 > 1 && i > 1) return false;
      const first = floor(i / 2) * samplesPerPixel;
      let [least, most] = [1, -1];
      for (let at = first; at < min(first + samplesPerPixel, 960_000); at++) {
        const sample = sin((2 * PI * 7 * at) / 48_000);
        [least, most] = [min(least, sample), max(most, sample)];
      }
      return abs(value - 63.5 * (i % 2 === 0 ? least : most)) > 1;
    });
    expect(wrong).toEqual([]);
  });

  it("is as fine as it can be if the recording is short, and if it is from before details were kept", async () => {
    const short = await upload(1);
    expect((await at(short.waveformUrl, "&samplesPerPixel=1")).waveform.samples_per_pixel).toBe(32);
    const old = await upload(11);
    await service.server.database.pool.query("update record_waveform set detail = null where record_id = $1", [old.id]);
    expect((await at(old.waveformUrl, "&samplesPerPixel=256")).waveform.samples_per_pixel).toBe(512);
  });

  it("zooms by a share link, and each zoom has its own ETag", async () => {
    const query = "mutation ($id: ID!) { createLink(recordId: $id) { link { waveformUrl } } }";
    const { waveformUrl } = (await client.run(query, { id: record.id }, ann)).data.createLink.link;
    const fine = await at(waveformUrl, "?samplesPerPixel=256");
    expect(fine.waveform).toEqual((await at(record.waveformUrl, "&samplesPerPixel=256")).waveform);
    expect(fine.etag).not.toBe((await at(waveformUrl)).etag);
  });

  it.each(["0", "-1", "1.5", "x", "", "16777217", "9999999999"])("refuses %s samples for each point", async (given) => {
    const { status, waveform: body } = await at(record.waveformUrl, `&samplesPerPixel=${given}`);
    expect([status, body.error?.code]).toEqual([400, "BAD_USER_INPUT"]);
  });
});
