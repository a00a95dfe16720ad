import { beforeAll, describe, expect, it } from "@jest/globals";
import { parseBuffer } from "music-metadata";
import type { Id3Fields } from "../src/audio/mp3/id3-tag.ts";
import { id3Tag, maxCommentLength, maxLineLength } from "../src/audio/mp3/id3-tag.ts";
import { changeHeadLevel } from "../src/audio/mp3/head-level.ts";
import { gainStepDb } from "../src/audio/mp3/mp3-gain.ts";
import { infoFrame, Mp3Index } from "../src/audio/mp3/mp3-header.ts";
import {
  decodeWithFfmpeg,
  decodeWithMpg123,
  describeWithFfmpeg,
  encodeMp3,
  problemsFoundByMp3val,
  readTagsWithFfmpeg,
} from "./support/mp3-decoders.ts";
import { needs } from "./support/needs.ts";

const samples = 20_000;
/** A PNG of one pixel. */
const pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
let sound: Buffer;
let frames: number;
/** Size of the Info frame, with which `sound` begins. */
let infoFrameBytes: number;

beforeAll(async () => {
  const index = new Mp3Index();
  const encoded = await encodeMp3(new Int16Array(samples), 44_100, 1, 32);
  index.add(encoded);
  frames = index.frames + 1;
  const info = infoFrame(index, { samples });
  infoFrameBytes = info.length;
  sound = Buffer.concat([info, encoded]);
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
      date: "2024-02-29 23:59",
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
    expect(format.tagTypes).toEqual(["ID3v2.3"]);
    expect(quality.warnings).toEqual([]);
    expect(common).toMatchObject({
      title: fields.title,
      artist: fields.artist,
      album: fields.album,
      comment: [{ text: "First line\nsecond line\\ with a backslash" }],
      genre: [fields.genre],
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
    const endless: Id3Fields = {
      title: "-" + "𝄞".repeat(400_000),
      comment: "é".repeat(400_000),
      artist: " ".repeat(1e6),
    };
    const tag = id3Tag(endless);
    expect(tag.length).toBeLessThan(2 * (maxLineLength + maxCommentLength) + 100);
    expect(await readTagsWithFfmpeg(Buffer.concat([tag, sound]))).toMatchObject({
      title: "-" + "𝄞".repeat(maxLineLength / 2 - 1),
      comment: "é".repeat(maxCommentLength),
    });
  });

  it("does not let a genre in brackets be taken for a number", async () => {
    const mp3 = Buffer.concat([id3Tag({ genre: "(Field) recording" }), sound]);
    const { common } = await parseBuffer(mp3, { mimeType: "audio/mpeg" });
    expect(common.genre).toEqual(["(Field) recording"]);
  });

  it("has the form of version 2.3: plain sizes, ASCII or UTF-16 with a BOM", () => {
    const tag = id3Tag({ title: "plain", artist: "ÿ", comment: "ж".repeat(100) });
    expect(tag.subarray(0, 6)).toEqual(Buffer.from("ID3\x03\0\0", "latin1"));
    expect(tag.subarray(6, 10).every((byte) => byte < 0x80)).toBe(true);
    const [b6, b7, b8, b9] = tag.subarray(6, 10);
    expect((b6! << 21) | (b7! << 14) | (b8! << 7) | b9!).toBe(tag.length - 10);
    expect(tag.toString("latin1")).toContain("TIT2\0\0\0\x06\0\0\0plain");
    expect(tag.toString("latin1")).toContain("TPE1\0\0\0\x05\0\0\x01\xff\xfe\xff\0");
    expect(tag.toString("latin1")).toContain("COMM\0\0\0\xd2\0\0\x01XXX\xff\xfe\0\0\xff\xfe\x36\x04");
  });

  it("has chapters and a cover that ffmpeg and music-metadata read", async () => {
    const cover = { mediaType: "image/png", bytes: Buffer.from(pixel, "base64") } as const;
    const chapters = [
      { title: "Einführung", startSeconds: 0, endSeconds: 0.125 },
      { title: null, startSeconds: 0.2, endSeconds: 0.4 },
    ];
    const mp3 = Buffer.concat([id3Tag({ title: "Chapters", chapters, cover }), sound]);
    const { common, quality } = await parseBuffer(mp3, { mimeType: "audio/mpeg" }, { includeChapters: true });
    expect(quality.warnings).toEqual([]);
    expect(common.picture).toMatchObject([{ format: "image/png", type: "Cover (front)" }]);
    expect(Buffer.from(common.picture![0]!.data).equals(cover.bytes)).toBe(true);
    const said = await describeWithFfmpeg(mp3);
    expect(said).toMatch(/Chapter #0:0: start 0\.0\d*, end 0\.1[25]\d*\s+Metadata:\s+title\s+: Einführung/);
    expect(said).toMatch(/Chapter #0:1: start 0\.2\d*, end 0\.4/);
    expect(said).toMatch(/Video: png/);
    expect((await decodeWithFfmpeg(mp3)).length).toBe(samples);
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
    ["2024-02", "2024"],
    ["2024/02/29", "2024 2902"],
    ["2024:02:29 23:59", "2024 2902 2359"],
    ["2024-02-29T23:59:58Z", "2024 2902 2359"],
    ["29 February 2024", "2024"],
    ["Recorded 20240229", undefined],
    ["yesterday", undefined],
  ])("reads the date %j as %j", (date, timestamp) => {
    const tag = id3Tag({ date }).toString("latin1");
    const frames = tag.matchAll(/(?:TYER|TDAT|TIME)[^A-Z]{7}(\d{4})/g);
    expect([...frames].map(([, digits]) => digits).join(" ")).toBe(timestamp ?? "");
  });
});

describe("the level at the end of a head", () => {
  it.each([
    [-6.54, 0.5, 3],
    [-6.54, 0.5, -5],
    [5, 0.99, 10],
    [-12.34, 1.5, -20],
    [22.01, 0.02, 25],
  ])("changes in place: gain %d dB and peak %d by %d steps", async (replayGainDb, peak, steps) => {
    const index = new Mp3Index();
    const encoded = sound.subarray(infoFrameBytes);
    index.add(encoded);
    const level = { replayGainDb, peak };
    const head = Buffer.concat([id3Tag({ title: "ж", ...level }), infoFrame(index, { samples, ...level })]);
    const bytes = head.length;
    changeHeadLevel(head, { from: 0, to: steps });
    expect(head.length).toBe(bytes);
    const { common, format, quality } = await parseBuffer(Buffer.concat([head, encoded]), { mimeType: "audio/mpeg" });
    expect(quality.warnings).toEqual([]);
    const [gainDb, factor] = [replayGainDb - steps * gainStepDb, 10 ** ((steps * gainStepDb) / 20)];
    expect(Math.abs(common.replaygain_track_gain!.dB - gainDb)).toBeLessThan(0.51);
    expect(Math.abs(common.replaygain_track_peak!.ratio - peak * factor)).toBeLessThan(1e-4);
    expect(Math.abs(format.trackGain! - gainDb)).toBeLessThan(0.051);
    expect(format.trackPeakLevel).toBeCloseTo(peak * factor, 4);
  });
});
