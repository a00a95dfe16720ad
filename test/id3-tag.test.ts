import { beforeAll, describe, expect, it } from "@jest/globals";
import { parseBuffer } from "music-metadata";
import type { Id3Fields } from "../src/audio/mp3/id3-tag.ts";
import { id3Tag, maxCommentBytes, maxLineBytes } from "../src/audio/mp3/id3-tag.ts";
import { infoFrame, Mp3Index } from "../src/audio/mp3/mp3-header.ts";
import {
  decodeWithFfmpeg,
  decodeWithMpg123,
  encodeMp3,
  problemsFoundByMp3val,
  readTagsWithFfmpeg,
} from "./support/mp3-decoders.ts";
import { needs } from "./support/needs.ts";

const samples = 20_000;
let sound: Buffer;
let frames: number;

beforeAll(async () => {
  const index = new Mp3Index();
  const encoded = await encodeMp3(new Int16Array(samples), 44_100, 1, 32);
  index.add(encoded);
  frames = index.frames + 1;
  sound = Buffer.concat([infoFrame(index, { samples }), encoded]);
});

describe("the ID3 tag", () => {
  const fields = {
    title: "Zażółć gęślą jaźń",
    artist: "坂本 龍一; João = Ж #1",
    album: "عود 🎻",
    comment: "First line\r\nsecond line\\ with a backslash",
    genre: "Field recording",
    date: "2024-02-29T23:59:58",
    track: "3/12",
    copyright: "2024 Somebody",
    software: "Recorder 1.0",
    durationSeconds: 0.4535,
    replayGainDb: -3.456,
    peak: 0.987_654_3,
  };

  it("is read back by ffmpeg as it was written", async () => {
    expect(await readTagsWithFfmpeg(Buffer.concat([id3Tag(fields), sound]))).toEqual({
      title: fields.title,
      artist: fields.artist,
      album: fields.album,
      comment: "First line\nsecond line\\ with a backslash",
      genre: fields.genre,
      date: fields.date,
      track: fields.track,
      copyright: fields.copyright,
      encoder: expect.stringMatching(/^Lavf|Recorder/),
      TLEN: "454",
      REPLAYGAIN_TRACK_GAIN: "-3.46 dB",
      REPLAYGAIN_TRACK_PEAK: "0.987654",
    });
  });

  it("is read back by music-metadata as it was written", async () => {
    const { common, format, quality } = await parseBuffer(Buffer.concat([id3Tag(fields), sound]), {
      mimeType: "audio/mpeg",
    });
    expect(format.tagTypes).toEqual(["ID3v2.4"]);
    expect(quality.warnings).toEqual([]);
    expect(common).toMatchObject({
      title: fields.title,
      artist: fields.artist,
      album: fields.album,
      comment: [{ text: "First line\nsecond line\\ with a backslash" }],
      genre: [fields.genre],
      date: fields.date,
      year: 2024,
      track: { no: 3, of: 12 },
      copyright: fields.copyright,
      encodersettings: fields.software,
      replaygain_track_gain: { dB: -3.46 },
      replaygain_track_peak: { ratio: 0.987_654 },
    });
  });

  it("does not change the sound", async () => {
    const mp3 = Buffer.concat([id3Tag(fields), sound]);
    expect((await decodeWithFfmpeg(mp3)).length).toBe(samples);
    expect((await decodeWithMpg123(mp3, 1)).length).toBe(samples);
  });

  needs("mp3val", () => {
    it("satisfies mp3val", async () => {
      expect(await problemsFoundByMp3val(Buffer.concat([id3Tag(fields), sound]), frames)).toEqual([]);
    });
  });

  it("is empty where there is nothing to say", () => {
    expect(id3Tag({})).toEqual(Buffer.alloc(0));
    expect(id3Tag({ title: "", artist: " \t\n\0", date: "long ago", track: "last", durationSeconds: 0 })).toEqual(
      Buffer.alloc(0),
    );
    expect(id3Tag({ replayGainDb: -Infinity, peak: Number.NaN })).toEqual(Buffer.alloc(0));
  });

  it("truncates long texts between two characters", async () => {
    const endless: Id3Fields = { title: "𝄞".repeat(400_000), comment: "é".repeat(400_000), artist: " ".repeat(1e6) };
    const tag = id3Tag(endless);
    expect(tag.length).toBeLessThan(maxLineBytes + maxCommentBytes + 50);
    expect(await readTagsWithFfmpeg(Buffer.concat([tag, sound]))).toMatchObject({
      title: "𝄞".repeat(maxLineBytes / 4),
      comment: "é".repeat(maxCommentBytes / 2),
    });
  });

  it("has sizes that never look like the start of a frame, and no byte 0xFF", () => {
    const tag = id3Tag({ ...fields, comment: "ÿ\u{10FFFF}".repeat(500) });
    expect(tag.includes(0xff)).toBe(false);
    expect(tag.subarray(6, 10).every((byte) => byte < 0x80)).toBe(true);
    const [b6, b7, b8, b9] = tag.subarray(6, 10);
    expect((b6! << 21) | (b7! << 14) | (b8! << 7) | b9!).toBe(tag.length - 10);
  });

  it.each([
    ["a lone \uD834 surrogate", "a lone \uFFFD surrogate"],
    ["two\0values", "two values"],
    ["  line\r\nbreaks\u0007and\u0085bells  ", "line breaks and bells"],
    ["\uFEFFbyte order mark", "byte order mark"],
  ])("writes the title %j as %j", async (title, read) => {
    expect(await readTagsWithFfmpeg(Buffer.concat([id3Tag({ title }), sound]))).toMatchObject({ title: read });
  });

  it.each([
    ["2024", "2024"],
    ["2024-02", "2024-02"],
    ["2024/02/29", "2024-02-29"],
    ["2024:02:29 23:59", "2024-02-29T23:59"],
    ["2024-02-29T23:59:58Z", "2024-02-29T23:59:58"],
    ["29 February 2024", "2024"],
    ["Recorded 20240229", undefined],
    ["yesterday", undefined],
  ])("reads the date %j as %j", (date, timestamp) => {
    const text = id3Tag({ date }).toString("latin1", 21);
    expect(text).toBe(timestamp ?? "");
  });
});
