import { describe, expect, it } from "@jest/globals";
import { openWav, type WavBounds } from "../src/audio/wav/wav-reader.ts";
import {
  chunk,
  id3Tag,
  infoChunk,
  inPieces,
  seededRandom,
  sineWav,
  wavFile,
  type FormatOptions,
  type WavOptions,
} from "./support/wav-maker.ts";

const speech: FormatOptions = { channels: 1, sampleRateHz: 16_000 };
const list = infoChunk({ INAM: "Title", ISFT: "Lavf" });

/** One second of a tone that is different for each number. */
function slice(number: number, format: FormatOptions = speech): Buffer {
  const { channels = 1, sampleRateHz = 16_000 } = format;
  const bits = (format.bits ?? 16) as 16;
  return sineWav({ seconds: 1, frequencyHz: 300 + 40 * number, channels, sampleRateHz, bits }).subarray(44);
}

const slices = Array.from({ length: 10 }, (_, number) => slice(number));
const whole = Buffer.concat(slices);

function joined(options: WavOptions = {}): Buffer {
  return Buffer.concat(slices.map((data) => wavFile({ format: speech, data, ...options })));
}

interface Outcome {
  readonly sound: Buffer;
  readonly remarks: readonly string[];
  readonly leftOutBytes: number;
  readonly title: string | undefined;
  readonly announcedFrames: number | undefined;
}

async function read(
  bytes: Buffer,
  pieceBytes = 1000,
  bounds: WavBounds = { maxBytes: bytes.length + 300 },
): Promise<Outcome> {
  const wav = await openWav(inPieces(bytes, pieceBytes), bounds);
  const blocks: Buffer[] = [];
  for await (const block of wav.blocks()) blocks.push(block);
  return {
    sound: Buffer.concat(blocks),
    remarks: [...wav.remarks],
    leftOutBytes: wav.leftOutBytes,
    title: wav.tags.get("title"),
    announcedFrames: wav.announcedFrames,
  };
}

/**
 * The first place where the sound differs from the expected one, so that a failure does not print thousands of bytes.
 */
function difference({ sound }: Outcome, expected: Buffer): string {
  if (sound.equals(expected)) return "none";
  const at = sound.findIndex((byte, i) => byte !== expected[i]);
  return `${sound.length} bytes, not ${expected.length}; the first other one at ${at}`;
}

describe("WAVs one behind the other", () => {
  it.each([
    ["with right sizes", joined()],
    ["with sizes of 0", joined({ dataSize: 0, size: 36 })],
    ["with sizes of 0xFFFFFFFF", joined({ dataSize: 0xffff_ffff, size: 0xffff_ffff })],
    ["with sizes that another part of the writer made up", joined({ dataSize: 2_000_000_000, size: 2_000_000_036 })],
    ["with a list in front of each sound", joined({ before: [list] })],
    ["with a list behind each sound", joined({ after: [list] })],
    ["with open sizes and a list behind each sound", joined({ dataSize: 0xffff_ffff, after: [list] })],
    ["with an extensible header every second time", everySecond({ extensible: { channelMask: 4 } })],
    ["with zeros between them", Buffer.concat([joined(), Buffer.alloc(512), joined()])],
    ["with a line break between them", Buffer.concat([joined(), Buffer.from("\r\n"), joined()])],
    ["with an ID3 tag between them", Buffer.concat([joined(), id3Tag(3, [["TIT2", Buffer.from("\0T")]]), joined()])],
    ["as RIFX", joined({ container: "RIFX" })],
    ["as RF64", joined({ container: "RF64" })],
    ["as RIFF and RF64", Buffer.concat([joined(), joined({ container: "RF64" }), joined({ container: "BW64" })])],
  ])("are one recording: %s", async (_, bytes) => {
    const times =
      bytes.toString("latin1").split("WAVEfmt ").length - 1 + bytes.toString("latin1").split("WAVEds64").length - 1;
    const expected = Buffer.concat(Array.from({ length: Math.max(1, Math.floor(times / 10)) }, () => whole));
    for (const pieceBytes of [997, bytes.length]) {
      const outcome = await read(bytes, pieceBytes);
      expect(difference(outcome, expected)).toBe("none");
      expect(outcome.remarks.filter((remark) => remark !== "TRAILING_JUNK")).toEqual([]);
    }
  });

  function everySecond(format: FormatOptions): Buffer {
    return Buffer.concat(
      slices.map((data, i) => wavFile({ format: i % 2 === 0 ? speech : { ...speech, ...format }, data })),
    );
  }

  it("are one recording when they arrive byte by byte", async () => {
    const data = slices[0]!.subarray(0, 4000);
    const bytes = Buffer.concat([1, 2, 3].map(() => wavFile({ format: speech, data, dataSize: 0, after: [list] })));
    const outcome = await read(bytes, 1);
    expect(difference(outcome, Buffer.concat([data, data, data]))).toBe("none");
    expect(outcome).toMatchObject({ remarks: [], title: "Title" });
  });

  it("do not add the headers of the others to the sound if the first header has the size of all", async () => {
    const bytes = joined();
    bytes.writeUInt32LE(bytes.length - 8, 4);
    bytes.writeUInt32LE(bytes.length - 44, 40);
    const outcome = await read(bytes);
    expect(difference(outcome, whole)).toBe("none");
    expect(outcome.remarks).toEqual([]);
  });

  it("may have odd sizes, with and without a pad byte", async () => {
    for (const padded of [true, false]) {
      const data = Buffer.from(Array.from({ length: 8001 }, (_, i) => 128 + 90 * Math.sin(i / 9)));
      const one = wavFile({ format: { channels: 1, sampleRateHz: 8000, bits: 8 }, data });
      const piece = padded ? one : one.subarray(0, -1);
      const outcome = await read(Buffer.concat([piece, piece, piece]));
      expect(difference(outcome, Buffer.concat([data, data, data]))).toBe("none");
      expect(outcome.remarks).toEqual([]);
    }
  });

  it("leave out WAVs of another format, and report their size", async () => {
    const others: FormatOptions[] = [
      { channels: 1, sampleRateHz: 48_000 },
      { channels: 2, sampleRateHz: 16_000 },
      { channels: 1, sampleRateHz: 16_000, bits: 24 },
      { ...speech, tag: 0x55 },
    ];
    for (const format of others) {
      const data = slice(3, format);
      const bytes = Buffer.concat([
        wavFile({ format: speech, data: slices[0]! }),
        wavFile({ format, data, dataSize: 0xffff_ffff }),
        wavFile({ format: speech, data: slices[1]!, after: [list] }),
      ]);
      const outcome = await read(bytes);
      expect(difference(outcome, Buffer.concat([slices[0]!, slices[1]!]))).toBe("none");
      expect(outcome).toMatchObject({ remarks: ["SOUND_LEFT_OUT"], leftOutBytes: data.length, title: "Title" });
    }
  });

  it("use the inner header if a header was put before a whole WAV", async () => {
    const inner = wavFile({ format: { channels: 1, sampleRateHz: 24_000 }, data: slices[0]! });
    const wav = await openWav(inPieces(wavFile({ format: speech, data: inner })));
    expect(wav.format.sampleRateHz).toBe(24_000);
    await wav[Symbol.asyncDispose]();
    expect(difference(await read(wavFile({ format: speech, data: inner })), slices[0]!)).toBe("none");
  });

  it("may begin with a WAV that has no sound", async () => {
    const outcome = await read(Buffer.concat([wavFile({ format: speech }), joined()]));
    expect(difference(outcome, whole)).toBe("none");
    expect(outcome.remarks).toEqual([]);
  });

  it("are kept if a later WAV ends inside its header", async () => {
    const bytes = Buffer.concat([joined(), wavFile({ format: speech }).subarray(0, 30)]);
    expect(difference(await read(bytes), whole)).toBe("none");
    const rf64 = Buffer.concat([joined(), wavFile({ container: "RF64", format: speech }).subarray(0, 20)]);
    expect(difference(await read(rf64), whole)).toBe("none");
  });
});

describe("sound behind the size of the data chunk", () => {
  const loud = seededRandom(3);
  const noise = Buffer.from(Array.from({ length: 64_000 }, () => Math.floor(loud() * 256)));

  it.each([
    ["16 bits", speech, whole],
    ["16 bits stereo", { channels: 2, sampleRateHz: 44_100 }, undefined],
    ["24 bits", { channels: 1, sampleRateHz: 16_000, bits: 24 }, undefined],
    ["8 bits", { channels: 1, sampleRateHz: 16_000, bits: 8 }, undefined],
    ["noise", speech, noise],
    ["A-law", { channels: 1, sampleRateHz: 8000, bits: 8, tag: 6 }, noise],
  ] as const)("goes on if the header has the size of the first slice: %s", async (_, format, given) => {
    const data = given ?? Buffer.concat([1, 2, 3].map((number) => slice(number, format)));
    const sliceBytes = data.length / 4;
    for (const size of [sliceBytes + 36, 0xffff_ffff, 36]) {
      const outcome = await read(wavFile({ format, data, dataSize: sliceBytes, size }), 5000, {});
      expect(difference(outcome, data)).toBe("none");
      expect(outcome.remarks).toEqual([]);
    }
  });

  it("continues after digital silence at the joint, however long", async () => {
    const silence = Buffer.alloc(200_002);
    const data = Buffer.concat([slices[0]!, silence, slices[1]!]);
    const outcome = await read(wavFile({ format: speech, data, dataSize: slices[0]!.length, size: 32_036 }));
    expect(difference(outcome, data)).toBe("none");
    expect(outcome.remarks).toEqual([]);
  });

  it("continues up to the size of the file, even if it is short", async () => {
    const data = slices[0]!.subarray(0, 3000);
    const outcome = await read(wavFile({ format: speech, data, dataSize: 1000 }));
    expect(difference(outcome, data)).toBe("none");
    expect(outcome.remarks).toEqual([]);
  });

  it("continues with a pause of faint noise after a loud tone", async () => {
    const pause = Buffer.alloc(70_000);
    for (let at = 0; at < pause.length; at += 2) pause.writeInt16LE(Math.round((loud() - 0.5) * 60), at);
    const data = Buffer.concat([slices[0]!, pause, slices[1]!]);
    const outcome = await read(wavFile({ format: speech, data, dataSize: 32_000, size: 32_036 }));
    expect(difference(outcome, data)).toBe("none");
    expect(outcome.remarks).toEqual([]);
  });

  it("continues in the middle of a frame", async () => {
    const format = { channels: 2, sampleRateHz: 44_100, bits: 24 } as const;
    const data = slice(1, format);
    expect(difference(await read(wavFile({ format, data, dataSize: 100_001, size: 100_037 })), data)).toBe("none");
  });

  it("continues after a size that is no larger than a header", async () => {
    for (const dataSize of [36, 44]) {
      const outcome = await read(wavFile({ format: speech, data: noise, dataSize, size: dataSize }));
      expect(difference(outcome, noise)).toBe("none");
      expect(outcome.remarks).toEqual([]);
    }
  });

  it("ends where tags begin, and reads them", async () => {
    const bytes = wavFile({ format: speech, data: whole, dataSize: 32_000, size: 32_036, after: [list] });
    const outcome = await read(bytes);
    expect(difference(outcome, whole)).toBe("none");
    expect(outcome).toMatchObject({ remarks: [], title: "Title" });
  });

  const jpeg = Buffer.concat([Buffer.from([0xff, 0xd8, 0xff, 0xe0]), noise]);
  it.each([
    ["an ID3v1 tag", Buffer.concat([Buffer.from("TAGTitle"), Buffer.alloc(120)])],
    ["an APE tag", apeTag()],
    ["zeros up to the next sector", Buffer.alloc(4096)],
    ["a great many zeros", Buffer.alloc(300_000)],
    ["text", Buffer.from("exported by the recorder of the town hall, room 3\r\n".repeat(200))],
    ["a picture", jpeg],
    ["random bytes behind a tone", noise],
    ["a short rest", noise.subarray(0, 700)],
    ["a rest that a wrong size of the file would nearly explain", Buffer.from([1, 2, 3, 4, 5, 6, 7, 8])],
    ["the beginning of a program", Buffer.concat([Buffer.from("\x7fELF"), relocations()])],
    ["a text in another language", Buffer.from("Größenänderungen an der Tür, “später” – Łódź, 東京。\n".repeat(300))],
    ["a web page", Buffer.from(`<!DOCTYPE html><title>502 Bad Gateway</title>${"<p>nginx</p>".repeat(900)}`)],
    ["a chunk that is cut short", chunk("mine", noise, { size: 200_000 })],
  ])("is not made of %s", async (_, junk) => {
    const outcome = await read(wavFile({ format: speech, data: slices[0]!, junk }));
    expect(difference(outcome, slices[0]!)).toBe("none");
    expect(outcome).toMatchObject({ remarks: ["TRAILING_JUNK"], leftOutBytes: junk.length });
  });

  it.each([
    ["an unknown chunk", [chunk("mine", noise)]],
    ["unknown chunks of odd sizes", [chunk("mine", noise.subarray(1)), chunk("MORE", noise.subarray(0, 777)), list]],
    ["a large unknown chunk and a list", [chunk("ovwf", Buffer.concat([noise, noise, noise])), list]],
    ["padding chunks", [chunk("JUNK", whole), chunk("PAD ", whole), chunk("FLLR", whole)]],
  ])("is not made of %s", async (_, after) => {
    const outcome = await read(wavFile({ format: speech, data: slices[0]!, after }));
    expect(difference(outcome, slices[0]!)).toBe("none");
    expect(outcome).toMatchObject({ remarks: [], leftOutBytes: 0 });
  });

  it("is found after junk if it has a header", async () => {
    const bytes = Buffer.concat([joined(), jpeg, joined()]);
    const outcome = await read(bytes);
    expect(difference(outcome, Buffer.concat([whole, whole]))).toBe("none");
    expect(outcome).toMatchObject({ remarks: ["TRAILING_JUNK"], leftOutBytes: jpeg.length });
  });

  /** Tables of addresses like those at the beginning of programs: smooth on the whole, rough in detail. */
  function relocations(): Buffer {
    const table = Buffer.alloc(96_000);
    for (let at = 0; at < table.length; at += 24) {
      table.writeUInt32LE(0x0403_1000 + at * 3, at);
      table.writeUInt32LE(8, at + 8);
      table.writeUInt32LE(0x0012_3450 + at, at + 16);
    }
    return table;
  }

  function apeTag(): Buffer {
    const items = Buffer.alloc(100, 7);
    const header = Buffer.alloc(32);
    header.write("APETAGEX");
    header.writeUInt32LE(2000, 8);
    header.writeUInt32LE(items.length + 32, 12);
    header.writeUInt32LE(0xa000_0000, 20);
    const footer = Buffer.from(header);
    footer.writeUInt32LE(0x8000_0000, 20);
    return Buffer.concat([header, items, footer]);
  }
});

describe("a list of sounds and silences", () => {
  it("yields its sounds, and its silences with their lengths", async () => {
    const silence = Buffer.alloc(4);
    silence.writeUInt32LE(8000);
    const wavl = chunk(
      "LIST",
      Buffer.concat([
        Buffer.from("wavl"),
        chunk("data", slices[0]!),
        chunk("slnt", silence),
        chunk("data", slices[1]!),
      ]),
    );
    const riff = Buffer.concat([wavFile({ format: speech }).subarray(0, 36), wavl, list]);
    const outcome = await read(riff);
    expect(difference(outcome, Buffer.concat([slices[0]!, Buffer.alloc(16_000), slices[1]!]))).toBe("none");
    expect(outcome).toMatchObject({ remarks: [], title: "Title" });
  });

  it("cannot request hours of silence with a few bytes", async () => {
    const silence = chunk("slnt", Buffer.from([0xff, 0xff, 0xff, 0xff]));
    const bytes = wavFile({ format: speech, data: slices[0]!, after: [silence] });
    await expect(read(bytes)).rejects.toMatchObject({ code: "UNSUPPORTED_MEDIA" });
  });

  it("cannot request gigabytes of silence, however short it lasts", async () => {
    const minute = Buffer.alloc(4);
    minute.writeUInt32LE(60 * 768_000);
    const format = { sampleRateHz: 768_000, channels: 64, bits: 64 };
    const bytes = wavFile({ format, data: Buffer.alloc(512), after: [chunk("slnt", minute)] });
    await expect(read(bytes)).rejects.toMatchObject({ code: "UNSUPPORTED_MEDIA" });
  });
});

describe("chunks behind sound of an open size", () => {
  const large = chunk(
    "id3 ",
    id3Tag(3, [
      ["TIT2", Buffer.from("\0Title")],
      ["APIC", Buffer.alloc(150_000, 0x55)],
    ]),
  );
  it.each([
    ["a list", [list]],
    ["other chunks and a list", [chunk("fact", Buffer.alloc(4)), chunk("iXML", Buffer.alloc(301)), list]],
    ["a tag with a picture", [large]],
    ["a broadcast extension and a list", [chunk("bext", Buffer.alloc(602)), list]],
  ])("are read as chunks: %s", async (_, after) => {
    for (const dataSize of [0, 0xffff_ffff, 2_000_000_000]) {
      for (const data of [slices[0]!, whole]) {
        const outcome = await read(wavFile({ format: speech, data, dataSize, after, size: 0xffff_ffff }), 4096);
        expect(difference(outcome, data)).toBe("none");
        expect(outcome).toMatchObject({ remarks: [], title: "Title" });
      }
    }
  });

  it("are found when they arrive byte by byte", async () => {
    const outcome = await read(wavFile({ format: speech, data: slices[0]!, dataSize: 0, after: [list] }), 1);
    expect(difference(outcome, slices[0]!)).toBe("none");
    expect(outcome.title).toBe("Title");
  });

  it("are distinguished from 8-bit sound of an odd length by the pad byte", async () => {
    const format = { channels: 1, sampleRateHz: 8000, bits: 8 } as const;
    const data = Buffer.from(Array.from({ length: 8001 }, (_, i) => 128 + 90 * Math.sin(i / 9)));
    expect(difference(await read(wavFile({ format, data, dataSize: 0xffff_ffff, after: [list] })), data)).toBe("none");
  });

  it("may be followed by an ID3v1 tag", async () => {
    const junk = Buffer.concat([Buffer.from("TAGTitle"), Buffer.alloc(120)]);
    expect(difference(await read(wavFile({ format: speech, data: slices[0]!, dataSize: 0, junk })), slices[0]!)).toBe(
      "none",
    );
    expect(
      difference(
        await read(wavFile({ format: speech, data: slices[0]!, dataSize: 0, after: [list], junk })),
        slices[0]!,
      ),
    ).toBe("none");
  });

  it("are sound if they do not reach exactly to the end", async () => {
    const data = Buffer.concat([slices[0]!, Buffer.from("cue \x10\0\0\0"), slices[1]!]);
    expect(difference(await read(wavFile({ format: speech, data, dataSize: 0 })), data)).toBe("none");
  });
});

describe("announced sizes", () => {
  const [sound] = slices as [Buffer];
  const max = 0xffff_ffff;

  it.each([
    [2_000_000_000, 2_000_000_036],
    [0x7fff_ffff, 0x7fff_ffff],
    [0x7fff_ffff - 36, 0x7fff_ffff],
    [0x7fff_ffff, 0x8000_0023],
    [0x8000_0000, 0x8000_0024],
    [0x7fff_f000, 0x7fff_f024],
    [0x7fff_ff00, 0x7fff_ff24],
    [0x8000_0100, 0x8000_0124],
    [max, max],
    [max - 36, max],
    [max - 44, max - 8],
    [0xffff_fffe, 36],
    [0xffff_ff00, 0xffff_ff24],
    [0x3fff_ffff, 0x4000_0023],
    [1_000_000_000, 1_000_000_036],
    [999_999_964, 1_000_000_000],
    [100_000_000, 100_000_036],
    [0x1000_0000, 0],
    [0, 0],
    [0, 36],
    [0, max],
    [1_234_567_890, 1_234_567_926],
  ])("of %i and %i bytes that no request can hold promise nothing", async (dataSize, size) => {
    for (const maxBytes of [sound.length + 500, undefined]) {
      const bytes = wavFile({ format: speech, data: sound, dataSize, size });
      const outcome = await read(bytes, 1000, { maxBytes, maxSeconds: 12 * 3600 - 10_000 });
      expect(difference(outcome, sound)).toBe("none");
      expect(outcome).toMatchObject({ remarks: [], announcedFrames: undefined });
    }
  });

  it("are trusted for a truncated file", async () => {
    for (const share of [0.1, 0.5, 0.99]) {
      const bytes = wavFile({ format: speech, data: whole });
      const outcome = await read(bytes.subarray(0, bytes.length * share));
      expect(outcome.remarks).toEqual(["CUT_SHORT"]);
    }
  });

  it("cause no warning if the other size is right, or if the header was counted as sound", async () => {
    for (const [dataSize, size] of [
      [sound.length + 3000, sound.length + 36],
      [sound.length + 3000, sound.length + 44],
      [sound.length + 44, sound.length + 36],
      [sound.length + 44, sound.length + 80],
      [sound.length + 8, sound.length + 44],
    ] as const) {
      const outcome = await read(wavFile({ format: speech, data: sound, dataSize, size }));
      expect(difference(outcome, sound)).toBe("none");
      expect(outcome.remarks).toEqual([]);
    }
  });

  it("of RF64 that were never filled in are ignored", async () => {
    for (const size of [0n, 2n ** 64n - 1n, 2n ** 63n]) {
      const bytes = wavFile({ container: "RF64", format: speech, data: sound });
      bytes.writeBigUInt64LE(size, 20);
      bytes.writeBigUInt64LE(size, 28);
      const outcome = await read(bytes);
      expect(difference(outcome, sound)).toBe("none");
      expect(outcome).toMatchObject({ remarks: [], announcedFrames: undefined });
    }
  });
});
