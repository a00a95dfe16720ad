import { describe, expect, it } from "@jest/globals";
import iconv from "iconv-lite";
import { parseBuffer, type IAudioMetadata } from "music-metadata";
import { tagTable, type TagName } from "../src/audio/tag-table.ts";
import { describeWithFfmpeg, readTagsWithFfmpeg } from "./support/mp3-decoders.ts";
import { serviceForUploads } from "./support/upload-and-download.ts";
import { bextChunk, chunk, cueChunks, id3Tag, infoChunk, wavFile } from "./support/wav-maker.ts";

const names = tagTable.map(({ name }) => name);
const data = Buffer.alloc(8820, 1);

/** Reads each tag from the result of music-metadata, as text. */
const readers: Readonly<Record<TagName, (common: IAudioMetadata["common"]) => string | undefined>> = {
  title: ({ title }) => title,
  artist: ({ artist }) => artist,
  album: ({ album }) => album,
  album_artist: ({ albumartist }) => albumartist,
  composer: ({ composer }) => composer?.join(),
  genre: ({ genre }) => genre?.join(),
  date: ({ year }) => year?.toString(),
  track: ({ track }) => [track.no, track.of].filter((number) => number !== null).join("/"),
  disc: ({ disk }) => [disk.no, disk.of].filter((number) => number !== null).join("/"),
  comment: ({ comment }) => comment?.map(({ text }) => text).join(),
  copyright: ({ copyright }) => copyright,
  publisher: ({ label }) => label?.join(),
  isrc: ({ isrc }) => isrc?.join(),
  language: ({ language }) => language,
  encoded_by: ({ encodedby }) => encodedby,
  software: ({ encodersettings }) => encodersettings,
};

const values: Readonly<Record<TagName, string>> = {
  title: "Zażółć 🎻",
  artist: "坂本 龍一",
  album: "Album",
  album_artist: "Various Artists",
  composer: "Dvořák",
  genre: "Field recording",
  date: "2024",
  track: "3/12",
  disc: "1/2",
  comment: "Said",
  copyright: "2024 Somebody",
  publisher: "Lä Bel",
  isrc: "GBAYE0601498",
  language: "eng",
  encoded_by: "Ann",
  software: "Recorder 1.0",
};

const uploadWav = serviceForUploads();

describe("the tags of the API", () => {
  it("are those of the MP3, each of them", async () => {
    const frames = tagTable.map(({ name, frame, holds }) => {
      const text = Buffer.from(values[name]);
      return [frame, Buffer.concat([Buffer.from(holds === "comment" ? "\x03eng\0" : "\x03"), text])] as const;
    });
    const { tags, mp3 } = await upload([chunk("id3 ", id3Tag(4, frames))]);
    expect(tags).toEqual(names.map((name) => ({ name, value: values[name] })));
    const { common } = await parseBuffer(mp3, { mimeType: "audio/mpeg" });
    expect(names.map((name) => ({ name, value: readers[name](common) }))).toEqual(tags);
    expect(await readTagsWithFfmpeg(mp3)).toMatchObject({
      title: values.title,
      album_artist: values.album_artist,
      composer: values.composer,
      disc: values.disc,
      publisher: values.publisher,
      TSRC: values.isrc,
      language: values.language,
      encoded_by: values.encoded_by,
    });
  });

  it("are those of the MP3 when they come from INFO and a broadcast extension", async () => {
    const info = infoChunk({
      INAM: "Title",
      IART: "Artist",
      IPRD: "Album",
      IMUS: "Composer",
      IGNR: "Genre",
      ITRK: "7",
      ICOP: "Nobody",
      ILNG: "deu",
      ISFT: "Maker",
    });
    const bext = bextChunk({ description: "Scene 1", originator: "Recorder", originationDate: "2026" });
    const { tags, mp3 } = await upload([bext, info]);
    const { common } = await parseBuffer(mp3, { mimeType: "audio/mpeg" });
    expect(tags.map(({ name }) => ({ name, value: readers[name](common) }))).toEqual(tags);
    expect(tags).toHaveLength(12);
  });

  it("are whole in the MP3, however long they are", async () => {
    const long = "🎵".repeat(1000);
    const { tags, mp3 } = await upload([infoChunk({ IART: long, ICMT: long })]);
    const { common } = await parseBuffer(mp3, { mimeType: "audio/mpeg" });
    expect(tags.map(({ value }) => value)).toEqual([long, long]);
    expect([readers.artist(common), readers.comment(common)]).toEqual([long, long]);
  });
});

describe("the MP3", () => {
  const png = Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), Buffer.alloc(100_000, 1)]);
  const apic = (type: number, picture: Buffer, encoding = 0) =>
    Buffer.concat([
      Buffer.of(encoding),
      Buffer.from("image/png\0"),
      Buffer.of(type),
      encoding === 1 ? Buffer.from("\uFEFFĀ\0", "utf16le") : Buffer.from("Cover\0"),
      picture,
    ]);
  const pictureIn = async (...frames: Buffer[]) => {
    const { mp3 } = await upload([chunk("id3 ", id3Tag(3, frames.map((frame) => ["APIC", frame] as const)))]); // prettier-ignore
    const { common } = await parseBuffer(mp3, { mimeType: "audio/mpeg" });
    return common.picture?.map(({ data: picture }) => Buffer.from(picture));
  };

  it("has the front cover of the WAV", async () => {
    expect(await pictureIn(apic(0, Buffer.concat([png, png])), apic(3, png, 1))).toEqual([png]);
    expect(await pictureIn(apic(0, png), apic(4, Buffer.concat([png, png])))).toEqual([png]);
  });

  it("has no picture that is too large or of another kind", async () => {
    expect(await pictureIn(apic(3, Buffer.concat([png, Buffer.alloc(500_000)])))).toBeUndefined();
    expect(await pictureIn(apic(3, Buffer.from("GIF89a")))).toBeUndefined();
  });

  it("has the cue points of the WAV as chapters, with their labels, and so does the API", async () => {
    const chunks = cueChunks([
      { number: 7, sample: 2205, label: "Ärger" },
      { number: 3, sample: 0, label: "Intro" },
      { number: 9, sample: 4000 },
      { number: 4, sample: 99_999 },
    ]);
    const { mp3, chapters: listed } = await upload(chunks, {}, Buffer.alloc(4 * 4410, 1));
    expect(listed).toEqual([
      { title: "Intro", startSeconds: 0, endSeconds: 0.05 },
      { title: "Ärger", startSeconds: 0.05, endSeconds: 4000 / 44_100 },
      { title: null, startSeconds: 4000 / 44_100, endSeconds: 0.1 },
    ]);
    const said = await describeWithFfmpeg(mp3);
    const chapters = said.matchAll(/Chapter #0:\d: start ([\d.]+), end ([\d.]+)(?:\s+Metadata:\s+title\s+: (\S+))?/g);
    expect([...chapters].map(([, start, end, title]) => [Number(start), Number(end), title])).toEqual([
      [0, 0.05, "Intro"],
      [0.05, 0.091, "Ärger"],
      [0.091, 0.1, "ch2"], // what ffmpeg calls a chapter without a title
    ]);
  });
});

describe("the title", () => {
  it("that is given with the upload is in the MP3", async () => {
    const { title, mp3 } = await upload([infoChunk({ INAM: "From the file" })], { title: "Given — 标题" });
    expect(title).toBe("Given — 标题");
    expect((await parseBuffer(mp3, { mimeType: "audio/mpeg" })).common.title).toBe("Given — 标题");
  });

  it.each([
    ["in a code page that nothing states", iconv.encode("Песня о тебе", "1251")],
    ["in Shift-JIS", iconv.encode("さくら", "932")],
    ["of control characters", Buffer.from("\x01\x02\x03")],
    ["of what could not be read before", Buffer.from("�����")],
    ["of UTF-8 that was read as Windows-1252", Buffer.from("PrÃ©lude")],
    ["of spaces", Buffer.from("      ")],
  ])("%s is none: the file's name is", async (_, value) => {
    const { title, tags, mp3 } = await upload([infoChunk({ INAM: value })]);
    expect(title).toBe("take 3");
    expect(tags).toEqual([]);
    expect((await parseBuffer(mp3, { mimeType: "audio/mpeg" })).common.title).toBe("take 3");
  });

  it("in the code page that the file states is read", async () => {
    const figures = Buffer.from([0xe3, 0x04, 0, 0, 0, 0, 0, 0]);
    const info = infoChunk({ INAM: iconv.encode("Песня о тебе", "1251") });
    expect((await upload([chunk("CSET", figures), info])).title).toBe("Песня о тебе");
  });
});

async function upload(chunks: readonly Buffer[], given: { title?: string } = {}, sound = data) {
  const { record, mp3 } = await uploadWav(wavFile({ before: chunks, data: sound }), {
    fileName: "take 3.wav",
    fields: "title tags { name value } chapters { title startSeconds endSeconds }",
    declarations: ", $title: String",
    args: ", title: $title",
    variables: given,
  });
  const { title, tags, chapters } = record as {
    title: string;
    tags: { name: TagName; value: string }[];
    chapters: unknown;
  };
  return { title, tags, chapters, mp3 };
}
