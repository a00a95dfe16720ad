import { spawnSync } from "node:child_process";
import { describe, expect, it } from "@jest/globals";
import { ByteReader } from "../src/audio/wav/byte-reader.ts";
import { wave64AsRf64 } from "../src/audio/wav/wave64.ts";
import { openWav, type WavBounds } from "../src/audio/wav/wav-reader.ts";
import { ServiceError } from "../src/errors/errors.ts";
import { ffmpeg } from "./support/ffmpeg.ts";
import { bextChunk, formatChunk, inPieces, seededRandom, sineWav, wave64File } from "./support/wav-maker.ts";

/** 100 frames of 24-bit stereo, every byte different from its neighbours. */
const sound = Buffer.from(Array.from({ length: 600 }, (_, i) => (i * 37) % 251));
const format = formatChunk({ bits: 24, sampleRateHz: 96_000 });
const bext = bextChunk({ description: "A long take" }).subarray(8);

describe("Sony Wave64", () => {
  it.each([1, 7, 24, 1000])("gives exactly its sound, %i bytes at a time", async (pieceBytes) => {
    const file = wave64File({
      chunks: [
        ["fmt ", format],
        ["levl", Buffer.alloc(13)],
        ["data", sound],
        ["bext", bext],
      ],
    });
    const { wav, read } = await readWav(file, pieceBytes);
    expect(wav.format).toMatchObject({ codec: "pcm", bitsPerSample: 24, sampleRateHz: 96_000, channels: 2 });
    expect(wav.announcedFrames).toBe(100);
    expect(read).toEqual(sound);
    expect(wav.tags.list).toContainEqual({ name: "comment", value: "A long take" });
    expect([...wav.remarks]).toEqual([]);
  });

  it("is read as ffmpeg writes it, into a file and into a pipe", async () => {
    const wav = sineWav({ seconds: 0.5, channels: 1 });
    const { status, stdout } = spawnSync(
      ffmpeg.path,
      "-v error -f wav -i pipe:0 -c:a pcm_s16le -f w64 pipe:1".split(" "),
      { input: wav },
    );
    expect(status).toBe(0);
    const { read, wav: opened } = await readWav(stdout);
    expect(read).toEqual(wav.subarray(44));
    expect(opened.announcedFrames).toBeUndefined();
    expect([...opened.remarks]).toEqual([]);
  });

  it("may have an odd size, and tags behind odd chunks", async () => {
    const mono = formatChunk({ channels: 1, bits: 8 });
    const file = wave64File({
      chunks: [
        ["levl", bext],
        ["fmt ", mono],
        ["data", sound.subarray(0, 399)],
        ["junk", sound.subarray(0, 5)],
        ["bext", bext],
      ],
    });
    const { wav, read } = await readWav(file);
    expect(read).toEqual(sound.subarray(0, 399));
    expect(wav.tags.list).toContainEqual({ name: "comment", value: "A long take" });
    expect([...wav.remarks]).toEqual([]);
  });

  it("keeps a limited part of what comes before the sound", async () => {
    const text = Buffer.alloc(60_000, "a");
    const texts = Array.from({ length: 100 }, () => ["junk", text] as const);
    const file = wave64File({ chunks: [["fmt ", format], ...texts, ["data", sound]] });
    const { value: head } = await wave64AsRf64(new ByteReader(inPieces(file, 10_000))).next();
    expect(head?.length).toBeLessThan(300_000);
    expect((await readWav(file)).read).toEqual(sound);
  });

  it("trims ADPCM by its 64-bit fact chunk", async () => {
    const fact = Buffer.alloc(8);
    fact.writeBigUInt64LE(700n);
    const adpcm = formatChunk({ tag: 2, channels: 1, bits: 4, blockAlign: 256 });
    const file = wave64File({
      chunks: [
        ["fmt ", adpcm],
        ["fact", fact],
        ["data", Buffer.alloc(512)],
      ],
    });
    expect((await readWav(file)).read).toHaveLength(2 * 700);
  });

  it("warns if it was cut, and ignores a size that the request cannot hold", async () => {
    const whole = wave64File({
      chunks: [
        ["fmt ", format],
        ["data", Buffer.concat([sound, sound])],
      ],
    });
    const cut = whole.subarray(0, whole.length - 600);
    const inTime = await readWav(cut, 100, { maxBytes: whole.length });
    expect(inTime.wav.announcedFrames).toBe(200);
    expect(inTime.read).toEqual(sound);
    expect([...inTime.wav.remarks]).toEqual(["CUT_SHORT"]);
    const huge = wave64File({
      chunks: [
        ["fmt ", format],
        ["data", sound, 2n ** 40n],
      ],
    });
    const { wav, read } = await readWav(huge);
    expect(wav.announcedFrames).toBeUndefined();
    expect(read).toEqual(sound);
  });

  it("leaves out what follows its chunks", async () => {
    const file = wave64File({
      chunks: [
        ["fmt ", format],
        ["data", sound],
      ],
    });
    const { wav, read } = await readWav(
      Buffer.concat([file, Buffer.from("\x01\x02\x03 rubbish, and more of it, and more")]),
    );
    expect(read).toEqual(sound);
    expect([...wav.remarks]).toEqual(["TRAILING_JUNK"]);
  });

  it.each([
    [
      "UPLOAD_INCOMPLETE",
      "a file cut in its first bytes",
      wave64File({ chunks: [] }).subarray(0, 20),
      "before its sound",
    ],
    ["UPLOAD_INCOMPLETE", "a file without sound", wave64File({ chunks: [["fmt ", format]] }), "before its sound"],
    ["UNSUPPORTED_MEDIA", "another form", wave64File({ form: "avi ", chunks: [["fmt ", format]] }), "another kind"],
    ["UNSUPPORTED_MEDIA", "sound before its format", wave64File({ chunks: [["data", sound]] }), "format"],
    ["UNSUPPORTED_MEDIA", "only the letters", Buffer.from("riff, and then something else"), "not a WAV"],
  ])("answers %s to %s", async (code, _, bytes, words) => {
    await expect(readWav(bytes)).rejects.toMatchObject({ code, message: expect.stringContaining(words) });
  });

  it("answers mutated headers with sound or a ServiceError, and nothing else", async () => {
    const random = seededRandom(64);
    const upTo = (limit: number): number => Math.floor(random() * limit);
    const whole = wave64File({
      chunks: [
        ["fmt ", format],
        ["bext", bext],
        ["data", sound],
        ["bext", bext],
      ],
    });
    const seen = new Set<string>();
    for (let round = 0; round < 2000; round++) {
      const bytes = Buffer.from(whole);
      for (let i = 0; i <= upTo(4); i++) bytes[upTo(bytes.length)] = [0, 1, 0x7f, 0xff, upTo(256)][upTo(5)]!;
      const cut = random() < 0.2 ? bytes.subarray(0, upTo(bytes.length)) : bytes;
      try {
        expect((await readWav(cut, 1 + upTo(200))).read.length).toBeLessThanOrEqual(cut.length);
        seen.add("sound");
      } catch (error) {
        if (!(error instanceof ServiceError)) throw error;
        seen.add(error.code);
      }
    }
    expect([...seen].toSorted()).toEqual(["UNSUPPORTED_MEDIA", "UPLOAD_INCOMPLETE", "sound"]);
  });
});

async function readWav(bytes: Buffer, pieceBytes?: number, bounds: WavBounds = { maxBytes: bytes.length + 300 }) {
  const wav = await openWav(inPieces(bytes, pieceBytes), bounds);
  const blocks: Buffer[] = [];
  for await (const block of wav.blocks()) blocks.push(block);
  return { wav, read: Buffer.concat(blocks) };
}
