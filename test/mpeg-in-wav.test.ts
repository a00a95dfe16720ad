import { spawnSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { openWav } from "../src/audio/wav/wav-reader.ts";
import { wavToPcm } from "../src/audio/wav/wav-to-pcm.ts";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { ffmpeg } from "./support/ffmpeg.ts";
import { decodeWithMpg123 } from "./support/mp3-decoders.ts";
import { startService, type TestService } from "./support/service.ts";
import { id3Tag, inPieces, seededRandom, wavFile, type FormatOptions } from "./support/wav-maker.ts";

interface Coding {
  readonly codec: "mp2" | "mp3";
  readonly format: FormatOptions;
  readonly arguments: string;
  readonly frameSamples: 1152 | 576;
}

const mp3 = { codec: "mp3", format: { tag: 0x55, bits: 0, blockAlign: 1 } } as const;
const mp2 = { codec: "mp2", format: { tag: 0x50, bits: 0, blockAlign: 1 } } as const;
const codings: Readonly<Record<string, Coding>> = {
  "MP3 of a CD": { ...mp3, arguments: "-ar 44100 -ac 2 -b:a 128k -c:a libmp3lame", frameSamples: 1152 },
  "MP3 of variable bit rate": { ...mp3, arguments: "-ar 48000 -ac 2 -q:a 2 -c:a libmp3lame", frameSamples: 1152 },
  "MP3 of speech": { ...mp3, arguments: "-ar 22050 -ac 1 -b:a 32k -c:a libmp3lame", frameSamples: 576 },
  "MP3 of 8 kHz": { ...mp3, arguments: "-ar 8000 -ac 1 -b:a 8k -c:a libmp3lame", frameSamples: 576 },
  "Layer II of a broadcaster": { ...mp2, arguments: "-ar 48000 -ac 2 -b:a 192k -c:a mp2", frameSamples: 1152 },
};
const names = Object.keys(codings);

describe("MPEG audio in a WAV", () => {
  it.each(names)("is decoded to each of its frames, as ffmpeg does: %s", async (name) => {
    const coding = codings[name]!;
    const { wav, channels, sampleRateHz } = example(coding);
    const { samples, format, remarks } = await decode(wav);
    expect(format).toMatchObject({ codec: coding.codec, channels, sampleRateHz });
    expect(remarks).toEqual([]);
    expect(samples.length % (coding.frameSamples * channels)).toBe(0);
    const theirs = decodeWithFfmpeg(wav);
    expect(samples).toHaveLength(theirs.length);
    expect(theirs.some((sample) => sample > 0.1)).toBe(true);
    expect(theirs.reduce((most, sample, i) => Math.max(most, Math.abs(sample - samples[i]!)), 0)).toBeLessThan(1e-4);
    for (const pieceBytes of [1, 100, 5000]) {
      const pieces = await decode(wav, pieceBytes);
      expect(Buffer.from(pieces.samples.buffer).equals(Buffer.from(samples.buffer))).toBe(true);
    }
  });

  it("has the rate and the channels of its frames, whatever its header says", async () => {
    const { data } = example(codings["MP3 of speech"]!);
    for (const format of [
      { sampleRateHz: 44_100, channels: 2 },
      { sampleRateHz: 8000, channels: 1 },
    ]) {
      const wav = wavFile({ format: { ...mp3.format, ...format }, data });
      expect((await decode(wav)).format).toMatchObject({ sampleRateHz: 22_050, channels: 1 });
    }
  });

  it("may begin with a tag, and loses no more than its damaged frames", async () => {
    const coding = codings["MP3 of a CD"]!;
    const { data, wav } = example(coding);
    const whole = (await decode(wav)).samples.length;
    const tag = id3Tag(4, [["TIT2", Buffer.from("\x03Title")]]);
    const tagged = await decode(wavFile({ format: coding.format, data: Buffer.concat([tag, data]) }));
    expect(tagged.samples).toHaveLength(whole);
    expect(tagged.remarks).toEqual([]);
    const damaged = Buffer.from(data);
    damaged.fill(0, 10_000, 10_100);
    const holed = await decode(wavFile({ format: coding.format, data: damaged }));
    expect(holed.samples.length).toBeLessThanOrEqual(whole);
    expect(holed.samples.length).toBeGreaterThan(whole - 3 * 2 * 1152);
    const overwritten = Buffer.from(data);
    overwritten.fill(0, 10_000, 12_000);
    expect((await decode(wavFile({ format: coding.format, data: overwritten }))).remarks).toEqual(["DAMAGED"]);
  });

  it.each(names)("gives samples that can be encoded, whatever is in its frames: %s", async (name) => {
    const coding = codings[name]!;
    const { data, channels } = example(coding);
    const random = seededRandom(name.length);
    for (let round = 0; round < 6; round++) {
      const hostile = Buffer.from(data);
      // Every byte of every second example, but for what looks like the header of a frame.
      for (let at = 4; at < hostile.length; at++) {
        const isHeader = [0, 1, 2, 3].some((back) => hostile[at - back] === 0xff && data[at - back] === 0xff);
        if (!isHeader && (round % 2 === 0 || random() < 0.02)) hostile[at] = random() * 255;
      }
      const { samples } = await decode(wavFile({ format: coding.format, data: hostile }), 3000);
      expect(samples.length % channels).toBe(0);
      for (const sample of samples) if (!(Math.abs(sample) <= 8)) throw new Error(`a sample of ${sample}`);
    }
  });

  it("gives the event loop to others while it decodes a large piece", async () => {
    let turns = 0;
    const timer = setInterval(() => turns++, 0);
    const { data } = example(codings["MP3 of a CD"]!);
    await decode(wavFile({ format: mp3.format, data: Buffer.concat(Array.from({ length: 10 }, () => data)) }));
    clearInterval(timer);
    expect(turns).toBeGreaterThan(10);
  });

  it.each([
    ["noise", Buffer.from(Uint8Array.from({ length: 100_000 }, seededRandomByte(1)))],
    ["nothing but sync words", Buffer.alloc(100_000, 0xff)],
    ["zeros", Buffer.alloc(100_000)],
  ])("is refused if it is %s", async (_, data) => {
    await expect(decode(wavFile({ format: mp3.format, data }))).rejects.toMatchObject({
      code: "UNSUPPORTED_MEDIA",
      message: expect.stringContaining("no frame"),
    });
  });
});

describe("an upload of MPEG audio in a WAV", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;

  beforeAll(async () => {
    service = await startService();
    client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
  });

  afterAll(async () => await service?.[Symbol.asyncDispose]());

  it.each(names)("is stored with its length and its codec: %s", async (name) => {
    const coding = codings[name]!;
    const { wav, channels, sampleRateHz } = example(coding);
    const fields = "url durationSeconds sampleRateHz warnings source { codec bitsPerSample sampleRateHz channels }";
    const { data } = await client.uploadRecord(ann, wav, { fields });
    const { url, durationSeconds, sampleRateHz: mp3RateHz, warnings, source } = data.uploadRecord.record;
    const frames = (await decode(wav)).samples.length / channels;
    expect(durationSeconds).toBe(frames / sampleRateHz);
    expect(source).toEqual({ codec: coding.codec, bitsPerSample: 0, sampleRateHz, channels });
    expect(warnings).toEqual([]);
    const bytes = Buffer.from(await (await fetch(url)).arrayBuffer());
    expect(await decodeWithMpg123(bytes, channels)).toHaveLength(Math.round(durationSeconds * mp3RateHz) * channels);
  });
});

/** Three seconds of a tone with noise, coded by ffmpeg, and the WAV that contains them. */
function example({ codec, format, arguments: options }: Coding) {
  const source = "-f lavfi -i aevalsrc=0.3*sin(600*PI*t)+0.1*sin(2400*PI*t*t):d=3";
  const bare = "-write_xing 0 -id3v2_version 0 -f";
  const data = runFfmpeg([...source.split(" "), ...`${options} ${codec === "mp3" ? bare : "-f"} ${codec}`.split(" ")]);
  const sampleRateHz = Number(/-ar (\d+)/u.exec(options)![1]);
  const channels = Number(/-ac (\d)/u.exec(options)![1]);
  return { data, sampleRateHz, channels, wav: wavFile({ format: { ...format, sampleRateHz, channels }, data }) };
}

/** The samples of a WAV as the encoder gets them. */
async function decode(bytes: Buffer, pieceBytes?: number) {
  const wav = await openWav(inPieces(bytes, pieceBytes), { maxBytes: bytes.length });
  const toPcm = wavToPcm(wav.format);
  const pieces: Buffer[] = [];
  for await (const blocks of wav.blocks()) pieces.push(toPcm(blocks));
  const samples = new Float32Array(Uint8Array.from(Buffer.concat(pieces)).buffer);
  return { samples, format: wav.format, remarks: [...wav.remarks] };
}

function decodeWithFfmpeg(wav: Buffer): Float32Array {
  return new Float32Array(Uint8Array.from(runFfmpeg(["-f", "wav", "-i", "pipe:0", "-f", "f32le"], wav)).buffer);
}

function runFfmpeg(options: readonly string[], input: Buffer = Buffer.alloc(0)): Buffer {
  const fixed = ["-nostdin", "-hide_banner", "-loglevel", "fatal"];
  const { status, stdout } = spawnSync(ffmpeg.path, [...fixed, ...options, "pipe:1"], { input, maxBuffer: 2 ** 26 });
  expect(status).toBe(0);
  return stdout;
}

function seededRandomByte(seed: number): () => number {
  const random = seededRandom(seed);
  return () => random() * 256;
}
