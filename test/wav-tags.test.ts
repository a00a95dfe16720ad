import { describe, expect, it } from "@jest/globals";
import { openWav } from "../src/audio/wav-reader.ts";
import { maxTagCharacters } from "../src/audio/wav-tags.ts";
import type { WavTags } from "../src/audio/wav-tags.ts";
import { bextChunk, chunk, id3Tag, infoChunk, inPieces, wavFile } from "./support/wav-maker.ts";

const sound = Buffer.alloc(400, 1);
const utf16 = (text: string): Buffer => Buffer.from(text, "utf16le");

describe("tags of a WAV", () => {
  it("come from INFO, wherever it stands", async () => {
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

  it("are taken for Windows-1252 when they are no valid UTF-8", async () => {
    const value = Buffer.from("Gr\xfc\xdfe \x80\x93\0rest", "latin1");
    expect((await tagsOf([infoChunk({ INAM: value })])).get("title")).toBe("Grüße €“");
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

  it("are believed in the order ID3, INFO, broadcast extension", async () => {
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

  it("are cut to a sane length, and what follows is still read", async () => {
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
  const wav = await openWav(inPieces(wavFile({ data: sound, [place]: chunks }), 1000));
  let bytes = 0;
  for await (const block of wav.blocks()) bytes += block.length;
  expect(bytes).toBe(sound.length);
  return wav.tags;
}
