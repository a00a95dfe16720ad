import { describe, expect, it } from "@jest/globals";
import { openWav } from "../src/audio/wav/wav-reader.ts";
import type { WavBounds, WavFile } from "../src/audio/wav/wav-reader.ts";
import { ServiceError } from "../src/errors/errors.ts";
import {
  chunk,
  formatChunk,
  id3Tag,
  infoChunk,
  inPieces,
  seededRandom,
  sineWav,
  sineWavStream,
  wavFile,
} from "./support/wav-maker.ts";

/** 100 frames of 16-bit stereo, every byte different from its neighbours. */
const sound = Buffer.from(Array.from({ length: 400 }, (_, i) => (i * 37) % 251));

describe("openWav", () => {
  it("returns the format, the promised length and exactly the sound", async () => {
    const { wav, read } = await readWav(wavFile({ data: sound }));
    expect(wav.format).toEqual({
      container: "RIFF",
      codec: "pcm",
      bitsPerSample: 16,
      containerBits: 16,
      sampleRateHz: 44_100,
      channels: 2,
      channelMask: 0,
      blockAlign: 4,
      framesPerBlock: 1,
      bigEndian: false,
      floatFullScale: 1,
    });
    expect(wav.announcedFrames).toBe(100);
    expect(read).toEqual(sound);
    expect([...wav.remarks]).toEqual([]);
  });

  it.each([1, 2, 3, 7, 64, 401])("returns the same if %i bytes arrive at a time", async (pieceBytes) => {
    const bytes = wavFile({
      data: sound,
      before: [infoChunk({ INAM: "Title" }), chunk("JUNK", Buffer.alloc(3))],
      after: [infoChunk({ IART: "Artist" })],
    });
    const { wav, read } = await readWav(bytes, pieceBytes);
    expect(read).toEqual(sound);
    expect(wav.tags.list).toEqual([
      { name: "title", value: "Title" },
      { name: "artist", value: "Artist" },
    ]);
  });

  it.each([
    ["chunks", [], chunk("JUNK", Buffer.alloc(0))],
    ["sounds", [], chunk("data", Buffer.alloc(4))],
    ["places to look at", [Buffer.of(1, 1)], Buffer.concat([chunk("LIST", Buffer.from("abcd")), Buffer.of(1, 1)])],
  ])("gives others the event loop while it reads many %s", async (_what, first, piece) => {
    let turns = 0;
    const count = (): NodeJS.Immediate => setImmediate(() => (timer = (turns++, count())));
    let timer = count();
    await readWav(wavFile({ data: sound, after: [...first, ...Array<Buffer>(9000).fill(piece)] }), 1e6);
    clearImmediate(timer);
    expect(turns).toBeGreaterThan(1);
  });

  it("comes to an end, however many chunks the file ends with", async () => {
    const { wav, read } = await readWav(
      wavFile({ data: sound, after: Array<Buffer>(10_100).fill(chunk("LIST", Buffer.alloc(0))) }),
      65_536,
    );
    expect(read).toEqual(sound);
    expect(wav.leftOutBytes).toBe(0);
  });

  it("passes on the source's own memory for whole blocks", async () => {
    const bytes = wavFile({ data: sound });
    await using wav = await openWav(inPieces(bytes));
    const first = await wav.blocks().next();
    expect(first.value?.buffer).toBe(bytes.buffer);
  });

  it.each([
    ["zero", 0, undefined, []],
    ["0xFFFFFFFF", 0xffff_ffff, undefined, []],
    ["what SoX leaves", 0x7fff_f000, undefined, []],
  ] as const)("reads to the end when the data size is %s", async (_, dataSize, announcedFrames, remarks) => {
    const { wav, read } = await readWav(wavFile({ data: sound, dataSize }));
    expect(read).toEqual(sound);
    expect(wav.announcedFrames).toBe(announcedFrames);
    expect([...wav.remarks]).toEqual(remarks);
  });

  it("announces what the header promises if the request can hold it", async () => {
    const bytes = wavFile({ data: sound, dataSize: 4000, size: 4036 });
    for (const [maxBytes, frames] of [
      [4044, 1000],
      [4043, undefined],
      [undefined, undefined],
    ]) {
      const { wav, read } = await readWav(bytes, 100, { maxBytes });
      expect(read).toEqual(sound);
      expect(wav.announcedFrames).toBe(frames);
      expect([...wav.remarks]).toEqual(["CUT_SHORT"]);
    }
  });

  it("reads to the end when the size in ds64 is as large as numbers go", async () => {
    const bytes = wavFile({ container: "RF64", data: sound });
    bytes.writeBigUInt64LE(2n ** 63n - 1n, 28);
    const { wav, read } = await readWav(bytes);
    expect(read).toEqual(sound);
    expect(wav.announcedFrames).toBeUndefined();
  });

  it("skips thousands of chunks before the sound", async () => {
    const before = Array.from({ length: 9000 }, () => chunk("tiny", Buffer.alloc(2)));
    const { read } = await readWav(wavFile({ before, data: sound }));
    expect(read).toEqual(sound);
  });

  it("stops at the data size if a few bytes follow that no size covers, and warns", async () => {
    const { wav, read } = await readWav(wavFile({ data: sound, dataSize: 200, size: 236 }));
    expect(read).toEqual(sound.subarray(0, 200));
    expect([...wav.remarks]).toEqual(["TRAILING_JUNK"]);
    expect(wav.leftOutBytes).toBe(200);
  });

  it("joins several data chunks", async () => {
    const after = [chunk("JUNK", Buffer.alloc(5)), chunk("data", sound), infoChunk({ INAM: "At last" })];
    const { wav, read } = await readWav(wavFile({ data: sound, after }));
    expect(read).toEqual(Buffer.concat([sound, sound]));
    expect(wav.tags.get("title")).toBe("At last");
  });

  it("leaves out a truncated last frame", async () => {
    const { wav, read } = await readWav(wavFile({ data: sound.subarray(0, 399) }));
    expect(read).toEqual(sound.subarray(0, 396));
    expect(wav.announcedFrames).toBe(99);
  });

  it("notices missing pad bytes, before and after the sound", async () => {
    const odd = chunk("JUNK", Buffer.alloc(7, 1), { padded: false });
    const mono = { channels: 1, bits: 8 } as const;
    const wav8 = wavFile({ format: mono, data: Buffer.alloc(0) });
    const bytes = Buffer.concat([
      wav8.subarray(0, 12),
      odd,
      wav8.subarray(12, 36),
      chunk("data", sound.subarray(0, 399), { padded: false }),
      infoChunk({ INAM: "Found" }),
    ]);
    const { wav, read } = await readWav(bytes);
    expect(read).toEqual(sound.subarray(0, 399));
    expect(wav.tags.get("title")).toBe("Found");
    expect([...wav.remarks]).toEqual([]);
  });

  it("uses the size from ds64 in RF64 and BW64, and reads what follows the sound", async () => {
    for (const container of ["RF64", "BW64"] as const) {
      const after = [chunk("mine", Buffer.alloc(6)), infoChunk({ INAM: "Big" })];
      const { wav, read } = await readWav(wavFile({ container, data: sound, after }));
      expect(read).toEqual(sound);
      expect(wav.format.container).toBe(container);
      expect(wav.announcedFrames).toBe(100);
      expect(wav.tags.get("title")).toBe("Big");
      expect([...wav.remarks]).toEqual([]);
    }
  });

  it("reads RIFX, which is big-endian", async () => {
    const after = [infoChunk({ INAM: "Turned" }, true)];
    const { wav, read } = await readWav(wavFile({ container: "RIFX", data: sound, after }));
    expect(wav.format).toMatchObject({ bigEndian: true, sampleRateHz: 44_100, channels: 2, bitsPerSample: 16 });
    expect(read).toEqual(sound);
    expect(wav.tags.get("title")).toBe("Turned");
    const extensible = { bits: 24, extensible: { channelMask: 3 } } as const;
    const turned = await readWav(wavFile({ container: "RIFX", format: extensible, data: sound }));
    expect(turned.wav.format).toMatchObject({ codec: "pcm", containerBits: 24, channelMask: 3 });
    const asSoxDoes = wavFile({ container: "RIFX", format: extensible, data: sound });
    expect(asSoxDoes.toString("hex", 44, 48)).toBe("00000001");
    asSoxDoes.write("00010000", 44, "hex");
    const { wav: bySox } = await readWav(asSoxDoes);
    expect(bySox.format).toMatchObject({ codec: "pcm", containerBits: 24, channelMask: 3 });
  });

  it("skips an ID3 tag before the file", async () => {
    const tag = id3Tag(3, [["TIT2", Buffer.from("\0In front")]]);
    const { wav, read } = await readWav(Buffer.concat([tag, wavFile({ data: sound })]), 5);
    expect(read).toEqual(sound);
    expect(wav.tags.get("title")).toBe("In front");
  });

  it("reports bytes after the end that belong to no chunk", async () => {
    const { wav, read } = await readWav(wavFile({ data: sound, junk: Buffer.from("\x01\x02\x03 rubbish, more") }));
    expect(read).toEqual(sound);
    expect([...wav.remarks]).toEqual(["TRAILING_JUNK"]);
  });

  it.each([
    ["14 bytes", formatChunk({ bits: 16 }).subarray(0, 14), { containerBits: 16, blockAlign: 4 }],
    ["14 bytes for 8 bits", formatChunk({ bits: 8 }).subarray(0, 14), { containerBits: 8, blockAlign: 2 }],
    ["18 bytes", formatChunk({ extra: Buffer.alloc(2) }), { containerBits: 16 }],
    ["18 bytes and a wrong cbSize", formatChunk({ extra: Buffer.from([255, 255]) }), { containerBits: 16 }],
    ["100 bytes", formatChunk({ extra: Buffer.alloc(84) }), { containerBits: 16 }],
    ["no block size", formatChunk({ blockAlign: 0 }), { blockAlign: 4 }],
    ["a wrong block size", formatChunk({ blockAlign: 9 }), { blockAlign: 4 }],
    ["a wrong byte rate", formatChunk({ bytesPerSecond: 1 }), { blockAlign: 4 }],
    ["12 bits in 16", formatChunk({ bits: 12 }), { bitsPerSample: 12, containerBits: 16 }],
    ["20 bits in 24", formatChunk({ bits: 20 }), { bitsPerSample: 20, containerBits: 24 }],
    ["20 bits in 32", formatChunk({ bits: 20, blockAlign: 8 }), { bitsPerSample: 20, containerBits: 32 }],
    ["24 bits in 32", formatChunk({ bits: 24, blockAlign: 8 }), { bitsPerSample: 24, containerBits: 32 }],
    [
      "24 bits in 32, extensible",
      formatChunk({ bits: 32, extensible: { validBits: 24 } }),
      { bitsPerSample: 24, containerBits: 32, blockAlign: 8 },
    ],
    ["extensible floats", formatChunk({ tag: 3, bits: 32, extensible: {} }), { codec: "float", containerBits: 32 }],
    ["extensible A-law", formatChunk({ tag: 6, bits: 8, extensible: {} }), { codec: "alaw", blockAlign: 2 }],
    ["extensible without cbSize", formatChunk({ extensible: { cbSize: 0 } }), { codec: "pcm", containerBits: 16 }],
    ["MS ADPCM", formatChunk({ tag: 2, bits: 4, blockAlign: 256 }), { codec: "ms-adpcm", framesPerBlock: 244 }],
    ["IMA ADPCM", formatChunk({ tag: 0x11, bits: 4, blockAlign: 256 }), { codec: "ima-adpcm", framesPerBlock: 249 }],
  ])("understands a format chunk of %s", async (_, fmt, expected) => {
    const { wav } = await readWav(wavFile({ formatChunk: fmt, data: sound }));
    expect(wav.format).toMatchObject(expected);
  });

  it.each([
    ["UPLOAD_INCOMPLETE", "an empty file", Buffer.alloc(0), "is empty"],
    ["UPLOAD_INCOMPLETE", "a file cut in its first bytes", Buffer.from("RIFF\0\0"), "before its sound"],
    ["UPLOAD_INCOMPLETE", "a file cut in its format", wavFile().subarray(0, 30), "before its sound"],
    ["UPLOAD_INCOMPLETE", "a file that ends before its data chunk", wavFile().subarray(0, 36), "before its sound"],
    [
      "UPLOAD_INCOMPLETE",
      "a file cut before its first sample",
      wavFile({ data: Buffer.alloc(1000) }).subarray(0, 44),
      "before its sound",
    ],
    [
      "UPLOAD_INCOMPLETE",
      "the header of a stream that never came",
      wavFile({ size: 0xffff_ffff, dataSize: 0xffff_ffff }),
      "contains no sound",
    ],
    ["UPLOAD_INCOMPLETE", "an empty data chunk", wavFile(), "contains no sound"],
    ["UPLOAD_INCOMPLETE", "only tags behind an empty data chunk", wavFile({ after: [infoChunk({ INAM: "x" })] }), ""],
    ["UPLOAD_INCOMPLETE", "less than one frame", wavFile({ data: Buffer.alloc(3) }), "contains no sound"],
    ["UNSUPPORTED_MEDIA", "an MP3", Buffer.from("\xff\xfb\x90\x64rest", "latin1"), "MP3"],
    ["UNSUPPORTED_MEDIA", "an MP3 with a tag", Buffer.concat([id3Tag(3, []), Buffer.from("\xff\xfb\x90\x64")]), "MP3"],
    ["UNSUPPORTED_MEDIA", "a FLAC", Buffer.from("fLaC\0\0\0\x22"), "FLAC"],
    ["UNSUPPORTED_MEDIA", "an AVI", Buffer.from("RIFF\0\0\0\0AVI LIST"), '"AVI "'],
    ["UNSUPPORTED_MEDIA", "text", Buffer.from("Hello"), "not a WAV"],
    ["UNSUPPORTED_MEDIA", "sound before its format", Buffer.from("RIFF\0\0\0\0WAVEdata\0\0\0\0"), "format"],
    ["UNSUPPORTED_MEDIA", "RF64 without sizes", Buffer.from("RF64\0\0\0\0WAVEfmt \0\0\0\0"), "ds64"],
    [
      "UNSUPPORTED_MEDIA",
      "endless chunks",
      wavFile({ before: [Buffer.alloc(1_000_000)], data: sound }),
      "10000 chunks",
    ],
    ["UNSUPPORTED_MEDIA", "a short format", wavFile({ formatChunk: Buffer.alloc(12) }), "12 bytes"],
    ["UNSUPPORTED_MEDIA", "no channel", wavFile({ format: { channels: 0 } }), "0 channels"],
    ["UNSUPPORTED_MEDIA", "65 channels", wavFile({ format: { channels: 65 } }), "65 channels, not 1 to 64"],
    ["UNSUPPORTED_MEDIA", "1 Hz", wavFile({ format: { sampleRateHz: 1 } }), "1 Hz"],
    ["UNSUPPORTED_MEDIA", "4 GHz", wavFile({ format: { sampleRateHz: 4e9, bytesPerSecond: 0 } }), "4000000000 Hz"],
    ["UNSUPPORTED_MEDIA", "AAC in a WAV", wavFile({ format: { tag: 0x1600 } }), "AAC (format tag 0x1600)"],
    ["UNSUPPORTED_MEDIA", "an unknown codec", wavFile({ format: { tag: 0x1234 } }), "0x1234"],
    ["UNSUPPORTED_MEDIA", "40-bit samples", wavFile({ format: { bits: 40 } }), "40 bits"],
    ["UNSUPPORTED_MEDIA", "16-bit floats", wavFile({ format: { tag: 3, bits: 16 } }), "16 bits"],
    ["UNSUPPORTED_MEDIA", "ADPCM without blocks", wavFile({ format: { tag: 2, bits: 4, blockAlign: 8 } }), "8 bytes"],
    ["UNSUPPORTED_MEDIA", "ADPCM of 6 channels", wavFile({ format: { tag: 17, channels: 6, bits: 4 } }), "6 channels"],
  ])("answers %s to %s", async (code, _, bytes, words) => {
    await expect(readWav(bytes)).rejects.toMatchObject({
      name: "ServiceError",
      code,
      message: expect.stringContaining(words),
    });
  });

  it.each([
    ["FLAC", "fLaC\0\0\0\x22"],
    ["Ogg", "OggS\0\x02"],
    ["AIFF", "FORM\0\0\x10\0AIFF"],
    ["CAF", "caff\0\x01"],
    ["WavPack", "wvpk\0\x01"],
    ["Monkey's Audio", "MAC \x96\x0f"],
    ["AMR", "#!AMR\n"],
    ["WebM or Matroska", "\x1aE\xdf\xa3\x9f"],
    ["WMA", "\x30\x26\xb2\x75\x8e\x66"],
    ["AU", ".snd\0\0\0\x18"],
    ["VOC", "Creative Voice File\x1a"],
    ["TTA", "TTA1\x01\0"],
    ["DSF (DSD)", "DSD \x1c\0"],
    ["DSDIFF (DSD)", "FRM8\0\0"],
    ["Musepack", "MPCKSH"],
    ["AC-3", "\x0b\x77\x12\x34"],
    ["MP3 or AAC", "\xff\xf1\x50\x80"],
    ["MP3 or AAC", "\xff\xfb\x90\x64"],
    ["MP3", "ID3\x04\0\0\0\0\0\0\xff\xfb"],
    ["MP4 or M4A", "\0\0\0\x20ftypM4A "],
  ])("names %s and says what to export", async (name, start) => {
    const file = Buffer.concat([Buffer.from(start, "latin1"), Buffer.alloc(100)]);
    const message = `The file is not a WAV. It looks like ${name}. Export it as WAV (PCM).`;
    await expect(readWav(file)).rejects.toMatchObject({ code: "UNSUPPORTED_MEDIA", message });
  });

  it.each([
    ["MIDI, which has notes but no sound", "MThd\0\0\0\x06", "Render it as WAV (PCM)."],
    ["a recording that was not finished: it begins with zeros", "\0\0\0\0\0\0\0\0", "Record it again."],
    ["a ZIP archive", "PK\x03\x04", "Unpack it and send the WAV."],
    ["a web page", "<!DOCTYPE html>", "Send the recording as WAV (PCM)."],
    ['a RIFF file of another kind ("AVI ")', "RIFF\0\0\0\0AVI LIST", "Export the sound as WAV (PCM)."],
  ])("names %s and says what to do", async (name, start, advice) => {
    const message = `The file is not a WAV. It looks like ${name}. ${advice}`;
    await expect(readWav(Buffer.from(start, "latin1"))).rejects.toMatchObject({ code: "UNSUPPORTED_MEDIA", message });
  });

  it("refuses as soon as it can, and closes the source", async () => {
    let closed = false;
    async function* endless(): AsyncGenerator<Buffer, void> {
      try {
        yield Buffer.from("fLaC");
        throw new Error("read too far");
      } finally {
        closed = true;
      }
    }
    await expect(openWav(endless())).rejects.toMatchObject({ code: "UNSUPPORTED_MEDIA" });
    expect(closed).toBe(true);
  });

  it("passes on an error of the source unchanged", async () => {
    const gone = new Error("client gone");
    async function* failing(): AsyncGenerator<Buffer, void> {
      yield wavFile({ data: sound, dataSize: 4000 });
      throw gone;
    }
    const wav = await openWav(failing());
    await expect(readAll(wav)).rejects.toBe(gone);
  });

  it("closes the source when reading is aborted", async () => {
    let closed = 0;
    async function* counted(): AsyncGenerator<Buffer, void> {
      try {
        yield* sineWavStream({ seconds: 10 });
      } finally {
        closed += 1;
      }
    }
    for await (const block of (await openWav(counted())).blocks()) {
      expect(block.length % 4).toBe(0);
      break;
    }
    expect(closed).toBe(1);
    {
      await using wav = await openWav(counted(), { maxBytes: 2_000_000 });
      expect(wav.announcedFrames).toBe(441_000);
    }
    expect(closed).toBe(2);
  });

  it("cuts a source of large pieces into small ones", async () => {
    const wav = await openWav(inPieces(sineWav({ seconds: 3 })));
    for await (const block of wav.blocks()) expect(block.length).toBeLessThanOrEqual(128 * 1024);
  });

  it("answers mutated headers with sound or a ServiceError, and nothing else", async () => {
    const random = seededRandom(42);
    const upTo = (limit: number): number => Math.floor(random() * limit);
    const tag = chunk("id3 ", id3Tag(4, [["TIT2", Buffer.from("\x03Title")]]));
    const wholes = [
      wavFile({ data: sound, before: [infoChunk({ INAM: "Title" }), tag], after: [infoChunk({ IART: "Artist" })] }),
      wavFile({ container: "RF64", format: { bits: 24, extensible: { channelMask: 3 } }, data: sound, after: [tag] }),
      wavFile({ container: "RIFX", format: { tag: 2, bits: 4, blockAlign: 64 }, data: sound, before: [tag] }),
    ];
    const seen = new Set<string>();
    for (let round = 0; round < 3000; round++) {
      const bytes = Buffer.from(wholes[round % wholes.length]!);
      for (let i = 0; i <= upTo(4); i++) bytes[upTo(bytes.length)] = [0, 1, 0x7f, 0xff, upTo(256)][upTo(5)]!;
      const cut = random() < 0.2 ? bytes.subarray(0, upTo(bytes.length)) : bytes;
      try {
        const { read } = await readWav(cut, 1 + upTo(200));
        expect(read.length).toBeLessThanOrEqual(cut.length);
        seen.add("sound");
      } catch (error) {
        if (!(error instanceof ServiceError)) throw error;
        seen.add(error.code);
      }
    }
    expect([...seen].toSorted()).toEqual(["UNSUPPORTED_MEDIA", "UPLOAD_INCOMPLETE", "sound"]);
  });
});

/** Reads a file that arrives in a request of a known size. */
async function readWav(
  bytes: Buffer,
  pieceBytes?: number,
  bounds: WavBounds = { maxBytes: bytes.length + 300 },
): Promise<{ wav: WavFile; read: Buffer }> {
  const wav = await openWav(inPieces(bytes, pieceBytes), bounds);
  return { wav, read: await readAll(wav) };
}

async function readAll(wav: WavFile): Promise<Buffer> {
  const blocks: Buffer[] = [];
  for await (const block of wav.blocks()) blocks.push(block);
  return Buffer.concat(blocks);
}
