import { describe, expect, it } from "@jest/globals";
import { parse } from "content-disposition";
import { contentDisposition, mp3FileName } from "../src/record/file-name.ts";

describe("the name of a download", () => {
  it.each([
    ["song.wav", "song.mp3"],
    ["Song.WAV", "Song.mp3"],
    ["song.wave", "song.mp3"],
    ["song.mp3", "song.mp3"],
    ["song", "song.mp3"],
    ["v1.2 final.wav", "v1.2 final.mp3"],
    ["song.flac", "song.flac.mp3"],
    ["日本の歌.wav", "日本の歌.mp3"],
    ["cafe\u0301.wav", "caf\u00e9.mp3"],
    ["AC/DC: live?", "AC-DC- live-.mp3"],
    ["../../etc/passwd", "etc-passwd.mp3"],
    [String.raw`C:\music\song.wav`, "C--music-song.mp3"],
    ["a\r\nSet-Cookie: b=c.wav", "a Set-Cookie- b=c.mp3"],
    ["a\u0000b\u007Fc\u0085d.wav", "a b c d.mp3"],
    ["song\u202Evaw.exe", "song vaw.exe.mp3"],
    ["a\uD800b.wav", "a b.mp3"],
    ["  spaced \t out  .wav", "spaced out.mp3"],
    [".hidden", "hidden.mp3"],
    ["-rf", "rf.mp3"],
    ["con.wav", "_con.mp3"],
    ["LPT1.x", "_LPT1.x.mp3"],
    ["console", "console.mp3"],
    ["", "recording.mp3"],
    [".wav", "recording.mp3"],
    ["song.wav  ", "song.mp3"],
    ["...", "recording.mp3"],
    ["\u202E", "recording.mp3"],
  ])("%p becomes %p", (name, fileName) => {
    expect(mp3FileName(name)).toBe(fileName);
  });

  it("is bounded, and cut between characters", () => {
    expect(mp3FileName("a".repeat(10_000))).toBe(`${"a".repeat(200)}.mp3`);
    expect(mp3FileName("é".repeat(10_000))).toBe(`${"é".repeat(100)}.mp3`);
    const family = "👩‍👩‍👧";
    expect(mp3FileName(family.repeat(100))).toBe(`${family.repeat(11)}.mp3`);
    expect(mp3FileName(`a${"\u0301".repeat(10_000)}`)).toBe("recording.mp3");
  });
});

describe("the Content-Disposition header", () => {
  it.each([
    ["song.mp3", "attachment; filename=song.mp3"],
    ["my song.mp3", 'attachment; filename="my song.mp3"'],
    [
      "naïve – ∫.mp3",
      "attachment; filename=\"naive _ _.mp3\"; filename*=UTF-8''na%C3%AFve%20%E2%80%93%20%E2%88%AB.mp3",
    ],
    ["é'(*)%41.mp3", "attachment; filename=\"e'(*)%41.mp3\"; filename*=UTF-8''%C3%A9%27%28%2A%29%2541.mp3"],
    ["😀.mp3", "attachment; filename=_.mp3; filename*=UTF-8''%F0%9F%98%80.mp3"],
  ])("of %p is %s", (fileName, header) => {
    expect(contentDisposition(fileName, false)).toBe(header);
    expect(parse(header).parameters["filename"]).toBe(fileName);
  });

  it("plays in the page if asked to", () => {
    expect(contentDisposition("song.mp3", true)).toBe("inline; filename=song.mp3");
  });

  it("is ASCII without control characters, whatever the upload was called", () => {
    for (let code = 0; code < 0x3000; code += 1) {
      expect(contentDisposition(mp3FileName(`a${String.fromCharCode(code)}b`), false)).toMatch(/^[ -~]+$/);
    }
  });
});
