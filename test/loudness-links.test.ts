import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { gainStepDb } from "../src/audio/mp3/mp3-gain.ts";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { decodeWithFfmpeg, readTagsWithFfmpeg } from "./support/mp3-decoders.ts";
import { startService, type TestService } from "./support/service.ts";
import { chunk, id3Tag, sineWav, wavFile } from "./support/wav-maker.ts";

let service: TestService;
let client: ApiClient;
let ann: Credentials;

beforeAll(async () => {
  service = await startService();
  client = new ApiClient(service.url);
  ann = await client.createUser("Ann");
});

afterAll(async () => await service?.[Symbol.asyncDispose]());

describe("the level that every link plays at", () => {
  it("keeps floats over full scale whole", async () => {
    const record = await upload(sineWav({ seconds: 1, amplitude: 2, bits: 32, isFloat: true, channels: 1 }));
    expect(record.warnings).toEqual([]);
    expect(record.truePeakDbtp).toBeCloseTo(6.02, 1);
    const { bytes, samples } = await play(record.url);
    expect(peak(samples)).toBeLessThan(1);
    expect(peak(samples)).toBeGreaterThan(0.7);
    expect(Math.abs(decibels(rms(samples) / Math.SQRT2) - record.mp3GainDb)).toBeLessThan(0.05);
    const tags = await readTagsWithFfmpeg(bytes);
    expect(decibels(Number(tags["REPLAYGAIN_TRACK_PEAK"]))).toBeCloseTo(6.02 + record.mp3GainDb, 1);
  });

  it("gives a mixdown the headroom back that it did not need", async () => {
    const data = new Int16Array(48_000 * 6);
    for (let i = 0; i < 48_000; i++) data[6 * i] = 10_000 * Math.sin(i / 20);
    const format = { channels: 6, sampleRateHz: 48_000 };
    const record = await upload(wavFile({ format, data: Buffer.from(data.buffer) }));
    expect(record.warnings).toEqual(["MIXED_DOWN"]);
    const { samples } = await play(record.url);
    const left = samples.filter((_, at) => at % 2 === 0);
    expect(Math.abs(decibels(rms(left) / ((10_000 / 32_768) * Math.SQRT1_2)))).toBeLessThan(0.8);
  });
});

describe("a link with a loudness", () => {
  let record: any;
  let plain: Awaited<ReturnType<typeof play>>;

  beforeAll(async () => {
    record = await upload(sineWav({ seconds: 3, amplitude: 0.05 }));
    plain = await play(record.url);
  });

  it.each([-23, -16.5, -40])("plays at %d LUFS, within half a step, and its tags say so", async (lufs) => {
    const { bytes, samples, etag } = await play(`${record.url}&loudness=${lufs}`);
    const addedDb = decibels(rms(samples) / rms(plain.samples));
    const loudness = record.loudness.integratedLufs + record.mp3GainDb + addedDb;
    expect(Math.abs(loudness - lufs)).toBeLessThan(gainStepDb / 2 + 0.02);
    expect(Math.abs(addedDb / gainStepDb - Math.round(addedDb / gainStepDb))).toBeLessThan(0.01);
    expect(bytes.length).toBe(plain.bytes.length);
    expect(etag).not.toBe(plain.etag);
    const [tags, plainTags] = [await readTagsWithFfmpeg(bytes), await readTagsWithFfmpeg(plain.bytes)];
    const gain = (all: Record<string, string>): number => Number.parseFloat(all["REPLAYGAIN_TRACK_GAIN"]!);
    expect(Math.abs(gain(plainTags) - gain(tags) - addedDb)).toBeLessThan(0.06);
    expect(Object.keys(tags)).toEqual(Object.keys(plainTags));
  });

  it("comes from the API, for the recording and for a share link", async () => {
    const links = "atLoudness(lufs: -20.5) { url streamUrl mp3Url }";
    const query = `mutation ($id: ID!) { createLink(recordId: $id) { link { url ${links} } record { url ${links} } } }`;
    const { data } = await client.run(query, { id: record.id }, ann);
    const { link, record: again } = data.createLink;
    const levels = new Set<number>();
    for (const { url, atLoudness } of [link, again]) {
      expect(atLoudness).toEqual({
        url: `${url}${url.includes("?") ? "&" : "?"}loudness=-20.5`,
        streamUrl: expect.stringMatching(/[?&]inline=1&loudness=-20\.5$/),
        mp3Url: expect.stringMatching(/\.mp3\?(?:user=\d+&)?loudness=-20\.5$/),
      });
      for (const leveled of Object.values<string>(atLoudness)) levels.add(rms((await play(leveled)).samples));
    }
    expect(levels.size).toBe(1);
    expect([...levels][0]! / rms(plain.samples)).not.toBeCloseTo(1, 1);
  });

  it.each(["-41", "-4.9", "0"])("of %s LUFS is refused by the API before anything is done", async (lufs) => {
    const query = `mutation ($id: ID!) { createLink(recordId: $id) { link { atLoudness(lufs: ${lufs}) { url } } } }`;
    const { status, errors } = await client.run(query, { id: record.id }, ann);
    expect([status, errors?.[0]?.extensions]).toMatchObject([400, { code: "BAD_USER_INPUT", argument: "lufs" }]);
    const { data } = await client.run("query ($id: ID!) { record(id: $id) { links { id } } }", { id: record.id }, ann);
    expect(data.record.links).toHaveLength(1);
  });

  it("answers every range with the bytes of the whole", async () => {
    const link = `${record.url}&loudness=-14`;
    const { bytes, etag } = await play(link);
    const size = bytes.length;
    for (const [start, end] of [
      [0, 0],
      [10, 5000],
      [700, 1500],
      [1234, 1234],
      [size - 3000, size - 1],
    ] as const) {
      // prettier-ignore
      const answer = await fetch(link, { headers: { range: `bytes=${start}-${end}`, "if-range": etag! } });
      expect(answer.status).toBe(206);
      expect(Buffer.from(await answer.arrayBuffer()).equals(bytes.subarray(start, end + 1))).toBe(true);
    }
    const other = await fetch(record.url, { headers: { range: "bytes=0-9", "if-range": etag! } });
    expect(other.status).toBe(200);
  });

  it("does not exceed a true peak of -1 dBTP", async () => {
    const loud = await upload(sineWav({ seconds: 1, amplitude: 0.5, channels: 1 }));
    const { samples } = await play(`${loud.url}&loudness=-5`);
    expect(decibels(peak(samples))).toBeLessThan(-0.9);
    expect(decibels(peak(samples))).toBeGreaterThan(-3);
  });

  it("leaves a sound without a loudness as it is", async () => {
    const short = await upload(sineWav({ seconds: 0.1 }));
    const [one, other] = [await play(short.url), await play(`${short.url}&loudness=-30`)];
    expect(one.bytes.equals(other.bytes)).toBe(true);
  });

  it("leaves a cover as it is, whatever its bytes are", async () => {
    const picture = Buffer.from(
      "\x89PNG\r\n\x1a\nREPLAYGAIN_TRACK_GAIN\0+9.99 dB\0REPLAYGAIN_TRACK_PEAK\x000.999999\0",
      "latin1",
    );
    const apic = Buffer.concat([Buffer.from("\0image/png\0\x03\0", "latin1"), picture]);
    const tagged = chunk("id3 ", id3Tag(3, [["APIC", apic]]));
    const tone = sineWav({ seconds: 1, amplitude: 0.05 });
    const { url } = await upload(wavFile({ data: tone.subarray(44), after: [tagged] }));
    const [one, other] = [await play(url), await play(`${url}&loudness=-16`)];
    expect([one.bytes.includes(picture), other.bytes.includes(picture)]).toEqual([true, true]);
    const gain = async (bytes: Buffer): Promise<string> => (await readTagsWithFfmpeg(bytes))["REPLAYGAIN_TRACK_GAIN"]!;
    expect(await gain(other.bytes)).not.toBe(await gain(one.bytes));
  });

  it.each(["loudness=-4", "loudness=-41", "loudness=", "loudness=loud", "loudness=16"])("refuses %s", async (asked) => {
    const answer = await fetch(`${record.url}&${asked}`);
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({ error: { code: "BAD_USER_INPUT", argument: "loudness" } });
  });

  it.each(["loudness=−16", "loudness=-16.0)", "amp;Loudness=-16%20LUFS"])("understands %s", async (asked) => {
    const [one, other] = [await fetch(`${record.url}&${asked}`), await fetch(`${record.url}&loudness=-16`)];
    expect([one.status, one.headers.get("etag")]).toEqual([200, other.headers.get("etag")]);
    await Promise.all([one, other].map(async ({ body }) => await body?.cancel()));
  });

  it("is also a share link", async () => {
    const { data } = await client.run(
      "mutation ($id: ID!) { createLink(recordId: $id) { link { url streamUrl mp3Url } } }",
      { id: record.id },
      ann,
    );
    const { etag } = await play(`${record.url}&loudness=-16`);
    const links = Object.values<string>(data.createLink.link).map((link) => new URL(link));
    for (const link of links) link.searchParams.set("loudness", "-16");
    const answers = await Promise.all(links.map(async (link) => await fetch(link, { method: "HEAD" })));
    expect(answers.map(({ headers }) => headers.get("etag"))).toEqual([etag, etag, etag]);
  });
});

async function upload(wav: Buffer) {
  const { data, errors } = await client.uploadRecord(ann, wav, {
    fields: "id url warnings mp3GainDb truePeakDbtp loudness { integratedLufs }",
  });
  expect(errors).toBeUndefined();
  return data.uploadRecord.record;
}

async function play(link: string) {
  const answer = await fetch(link);
  expect(answer.status).toBe(200);
  const bytes = Buffer.from(await answer.arrayBuffer());
  return { bytes, etag: answer.headers.get("etag"), samples: await decodeWithFfmpeg(bytes) };
}

function rms(samples: Float32Array): number {
  // Without the edges, where the encoder fades.
  const middle = samples.subarray(samples.length / 4, (samples.length * 3) / 4);
  return Math.sqrt(middle.reduce((sum, sample) => sum + sample * sample, 0) / middle.length);
}

function peak(samples: Float32Array): number {
  return samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
}

function decibels(ratio: number): number {
  return 20 * Math.log10(ratio);
}
