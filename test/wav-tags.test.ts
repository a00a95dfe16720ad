import { describe, expect, it } from "@jest/globals";
import iconv from "iconv-lite";
import { openWav } from "../src/audio/wav/wav-reader.ts";
import { maxTagCharacters } from "../src/audio/wav/wav-tags.ts";
import type { WavTags } from "../src/audio/wav/wav-tags.ts";
import { bextChunk, chunk, id3Tag, infoChunk, inPieces, wavFile } from "./support/wav-maker.ts";

const sound = Buffer.alloc(400, 1);
const utf16 = (text: string): Buffer => Buffer.from(text, "utf16le");

describe("tags of a WAV", () => {
  it("come from INFO, wherever it is", async () => {
    const values = {
      INAM: "Grüße",
      IART: "Artist",
      IPRD: "Album",
      IGNR: "Genre",
      ICRD: "2026-11-23",
      ITRK: "3",
      ICMT: "Comment",
      ICOP: "Nobody",
      ISFT: "Maker",
      XXXX: "not kept",
    };
    for (const place of ["before", "after"] as const) {
      const tags = await tagsOf([infoChunk(values)], place);
      expect(Object.fromEntries(tags.list.map(({ name, value }) => [name, value]))).toEqual({
        title: "Grüße",
        artist: "Artist",
        album: "Album",
        genre: "Genre",
        date: "2026-11-23",
        track: "3",
        comment: "Comment",
        copyright: "Nobody",
        software: "Maker",
      });
    }
  });

  it.each([
    ["UTF-8", Buffer.from("Grüße 你好 🎵\0")],
    ["UTF-8 without an end", Buffer.from("Grüße 你好 🎵")],
    ["UTF-16 with a mark", utf16("\ufeffGrüße 你好 🎵\0")],
    ["UTF-16, highest byte first", utf16("\ufeffGrüße 你好 🎵").swap16()],
    ["UTF-16 without a mark", utf16("Grüße 你好 🎵\0")],
  ])("are read from %s", async (_, value) => {
    expect((await tagsOf([infoChunk({ INAM: value })])).get("title")).toBe("Grüße 你好 🎵");
  });

  it("keep the joiners of emoji and Persian", async () => {
    const title = "👩‍👩‍👧‍👦 می‌خواهم";
    expect((await tagsOf([infoChunk({ INAM: title })])).get("title")).toBe(title);
  });

  it("are read as Windows-1252 if they are not valid UTF-8", async () => {
    const value = Buffer.from("Gr\xfc\xdfe \x80\x93\0rest", "latin1");
    expect((await tagsOf([infoChunk({ INAM: value })])).get("title")).toBe("Grüße €“");
  });

  it.each([
    [1251, "Привет"],
    [932, "日本語"],
    [850, "Grüße"],
  ])("are read in the code page %i that the file states, wherever it does", async (codePage, title) => {
    const info = infoChunk({ INAM: iconv.encode(title, String(codePage)) });
    for (const bigEndian of [false, true]) {
      const set = characterSetChunk({ codePage, bigEndian });
      const value = iconv.encode(title, String(codePage));
      const container = bigEndian ? "RIFX" : "RIFF";
      const chunks = [infoChunk({ INAM: value }, bigEndian), set];
      for (const wav of [
        { before: chunks },
        { before: chunks.toReversed() },
        { before: chunks.slice(0, 1), after: [set] },
        { after: chunks },
      ]) {
        expect((await tagsIn(wavFile({ container, data: sound, ...wav }))).get("title")).toBe(title);
      }
    }
    expect((await tagsOf([info])).get("title")).toBeUndefined();
  });

  it("are read by the language that the file states", async () => {
    const info = infoChunk({ INAM: iconv.encode("Привет", "1251") });
    expect((await tagsOf([characterSetChunk({ language: 25 }), info])).get("title")).toBe("Привет");
  });

  it("are ignored if no language has them, so that others count", async () => {
    const gibberish = iconv.encode("Привет", "1251");
    const latin1 = Buffer.concat([Buffer.from([0]), gibberish]);
    const id3 = chunk("id3 ", id3Tag(3, [["TIT2", latin1]]));
    expect((await tagsOf([id3])).list).toEqual([]);
    expect((await tagsOf([id3, infoChunk({ INAM: "Hello" })])).get("title")).toBe("Hello");
    expect((await tagsOf([id3, characterSetChunk({ codePage: 1251 })])).get("title")).toBe("Привет");
    const twice = id3Tag(3, [
      ["TIT2", latin1],
      ["TIT2", Buffer.from("\0Hello")],
    ]);
    expect((await tagsOf([chunk("id3 ", twice)])).get("title")).toBe("Hello");
    const shiftJis = Buffer.concat([Buffer.from([0]), iconv.encode("さくら", "932")]);
    expect((await tagsOf([chunk("id3 ", id3Tag(4, [["TIT2", shiftJis]]))])).list).toEqual([]);
  });

  it.each([
    ["UTF-16 with a mark", 1, utf16("\ufeffTitel 你好")],
    ["UTF-16 with the other mark", 1, utf16("\ufeffTitel 你好").swap16()],
    ["UTF-16 without a mark", 1, utf16("Titel 你好")],
    ["UTF-16 without a mark, highest byte first", 1, utf16("Titel 你好").swap16()],
    ["UTF-16BE", 2, utf16("Titel 你好").swap16()],
    ["UTF-8", 3, Buffer.from("Titel 你好")],
    ["UTF-8 that calls itself Latin-1", 0, Buffer.from("Titel 你好\0")],
  ])("come from ID3 in %s", async (_, encoding, text) => {
    const frames = [
      ["TIT2", Buffer.concat([Buffer.from([encoding]), text])],
      [
        "COMM",
        Buffer.concat([Buffer.from([encoding]), Buffer.from("eng"), Buffer.alloc(encoding % 3 === 0 ? 1 : 2), text]),
      ],
    ] as const;
    const tags = await tagsOf([chunk("id3 ", id3Tag(4, frames))]);
    expect(tags.list).toEqual([
      { name: "title", value: "Titel 你好" },
      { name: "comment", value: "Titel 你好" },
    ]);
  });

  it("are read from INFO of any padding", async () => {
    const entry = (id: string, text: string, padded: boolean): Buffer => chunk(id, Buffer.from(text), { padded });
    for (const padded of [true, false]) {
      const entries = [
        entry("INAM", "   Title   ", padded),
        entry("IART", "Odd", padded),
        entry("IPRD", "Album\0\0", padded),
        entry("ICMT", "Comment", padded),
      ];
      const tags = await tagsOf([chunk("LIST", Buffer.concat([Buffer.from("INFO"), ...entries]))]);
      expect(tags.texts).toMatchObject({ title: "Title", artist: "Odd", album: "Album", comment: "Comment" });
    }
  });

  it("are read from the first 1000 entries of INFO, and cost little however many there are", async () => {
    const marks = "\u0301\u0323".repeat(2000);
    const many = Array.from({ length: 300 }, () => infoChunk({ INAM: marks, IART: Buffer.alloc(0), XXXX: "no tag" }));
    const tags = await tagsOf([infoChunk({ ICMT: "Comment" }), ...many, infoChunk({ ICOP: "Nobody" })], "after");
    expect(tags.get("title")).toHaveLength(30);
    expect(tags.get("comment")).toBe("Comment");
    expect((await tagsOf([...many, ...many, infoChunk({ ICOP: "Nobody" })])).get("copyright")).toBeUndefined();
  });

  it("come from a broadcast extension that is full to its last byte", async () => {
    const chunks = [bextChunk({})];
    chunks[0]!.write("é".repeat(127) + "x", 8, "utf8");
    chunks[0]!.write("é", 8 + 255, "utf8");
    expect((await tagsOf(chunks)).get("comment")).toBe(`${"é".repeat(127)}x`);
  });

  it("come from a broadcast extension", async () => {
    const chunks = [bextChunk({ description: "Scene 1", originator: "Recorder", originationDate: "2026-11-23" })];
    expect((await tagsOf(chunks)).list).toEqual([
      { name: "date", value: "2026-11-23" },
      { name: "comment", value: "Scene 1" },
      { name: "encoded_by", value: "Recorder" },
    ]);
  });

  it.each([
    [2, "TT2", "TP1", "COM"],
    [3, "TIT2", "TPE1", "COMM"],
    [4, "TIT2", "TPE1", "COMM"],
  ] as const)("come from ID3v2.%i", async (version, title, artist, comment) => {
    const tag = id3Tag(version, [
      [comment, Buffer.from("\0engiTunNORM\0 0000")],
      [comment, Buffer.concat([Buffer.from("\x01eng"), utf16("\ufeff\0\ufeffSaid 🎵\0")])],
      [title, Buffer.concat([Buffer.from([1]), utf16("\ufeff你好")])],
      [artist, Buffer.from("\0Bj\xf6rk", "latin1")],
      [title, Buffer.from("\0Second title")],
    ]);
    expect((await tagsOf([chunk("id3 ", tag)])).list).toEqual([
      { name: "title", value: "你好" },
      { name: "artist", value: "Björk" },
      { name: "comment", value: "Said 🎵" },
    ]);
  });

  it("are read past pictures, and from frames with a zero after each 0xFF", async () => {
    const picture = Buffer.alloc(300_000, 0xff);
    const unsynchronised = id3Tag(3, [["TIT2", Buffer.from("\0A\xff\0\xe0B", "latin1")]], 0x80);
    expect((await tagsOf([chunk("id3 ", unsynchronised)])).get("title")).toBe("AÿàB");
    const behindPicture = id3Tag(4, [
      ["APIC", picture],
      ["TIT2", Buffer.from("\x03Behind")],
      ["TCON", Buffer.from("\x03(17)Rock")],
    ]);
    const tags = await tagsOf([chunk("ID3 ", behindPicture)]);
    expect(tags.get("title")).toBe("Behind");
    expect(tags.get("genre")).toBe("Rock");
  });

  it("join several values of one ID3v2.4 frame", async () => {
    const tag = id3Tag(4, [["TPE1", Buffer.from("\x03One\0Two\0")]]);
    expect((await tagsOf([chunk("id3 ", tag)])).get("artist")).toBe("One; Two");
  });

  it("take precedence in the order ID3, INFO, broadcast extension", async () => {
    const id3 = chunk("id3 ", id3Tag(3, [["TIT2", Buffer.from("\0From ID3")]]));
    const info = infoChunk({ INAM: "From INFO", ICMT: "From INFO" });
    const bext = bextChunk({ description: "From bext" });
    for (const chunks of [
      [id3, info, bext],
      [bext, info, id3],
    ]) {
      const tags = await tagsOf(chunks);
      expect(tags.get("title")).toBe("From ID3");
      expect(tags.get("comment")).toBe("From INFO");
    }
  });

  it("are truncated to a sane length, and what follows is still read", async () => {
    const huge = "🎵".repeat(500_000);
    const tags = await tagsOf([infoChunk({ INAM: huge, IART: "Artist" })], "after");
    expect(tags.get("title")).toBe("🎵".repeat(maxTagCharacters));
    expect(tags.get("artist")).toBe("Artist");
    const id3 = await tagsOf([chunk("id3 ", id3Tag(4, [["TIT2", Buffer.from(`\x03${huge}`)]]))]);
    expect(id3.get("title")).toBe("🎵".repeat(maxTagCharacters));
  });

  it("survive chunks that are empty, cut or lie about their size", async () => {
    const broken = [
      chunk("LIST", Buffer.alloc(2)),
      chunk("LIST", Buffer.from("INFOIN")),
      chunk("LIST", Buffer.from("INFOINAM\xff\xff\xff\xff", "latin1")),
      chunk("bext", Buffer.from("short")),
      chunk("id3 ", Buffer.from("ID3\x03\0\0\x7f\x7f\x7f\x7fTIT2\xff\xff\xff\xff\0\0\x09bad", "latin1")),
      chunk("id3 ", id3Tag(4, [["TIT2", Buffer.alloc(0)]])),
      chunk("id3 ", Buffer.alloc(0)),
      infoChunk({ IART: "Artist" }),
    ];
    for (const place of ["before", "after"] as const) {
      expect((await tagsOf(broken, place)).list).toEqual([
        { name: "artist", value: "Artist" },
        { name: "comment", value: "short" },
      ]);
    }
  });
});

async function tagsOf(chunks: readonly Buffer[], place: "before" | "after" = "before"): Promise<WavTags> {
  return await tagsIn(wavFile({ data: sound, [place]: chunks }));
}

async function tagsIn(file: Buffer): Promise<WavTags> {
  const wav = await openWav(inPieces(file, 1000));
  let bytes = 0;
  for await (const block of wav.blocks()) bytes += block.length;
  expect(bytes).toBe(sound.length);
  return wav.tags;
}

function characterSetChunk({ codePage = 0, language = 0, bigEndian = false }): Buffer {
  const figures = Buffer.alloc(8);
  figures.writeUInt16LE(codePage, 0);
  figures.writeUInt16LE(language, 4);
  if (bigEndian) figures.swap16();
  return chunk("CSET", figures, { bigEndian });
}
