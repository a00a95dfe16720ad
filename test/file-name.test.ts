import { describe, expect, it } from "@jest/globals";
import { parse } from "content-disposition";
import { contentDisposition, mp3FileName } from "../src/record/file-name.ts";
import { titleFromFileName } from "../src/record/record-title.ts";

describe("the title and the name that a file's name gives", () => {
  it.each([
    "Dr. Who",
    "Symphony No. 5",
    "2026-05-01 10.30",
    "v1.2",
    "Mr. Brightside (feat. A.B.)",
    "Live on abc.net.au",
    "notes.txt",
    "Op. 27 No. 2",
    "St. Wave",
    "wav",
    "mp3",
    "1.5",
  ])("%p is whole with or without an ending", (name) => {
    const endings = [
      "",
      ".wav",
      ".WAV",
      ".wave",
      ".mp3",
      ".Flac",
      ".aif",
      ".AIFF",
      ".m4a",
      ".wav.wav",
      ".mp3.wav",
      " .wav",
    ];
    for (const ending of endings) {
      expect(titleFromFileName(`${name}${ending}`)).toBe(name);
      expect(mp3FileName(`${name}${ending}`)).toBe(`${name.replace(/\.$/, "")}.mp3`);
    }
  });

  it.each([".wav", "", " ", ".mp3.wav"])("%p gives none", (name) => {
    expect(titleFromFileName(name)).toBe("Recording");
    expect(mp3FileName(name)).toBe("recording.mp3");
  });
});

describe("the title of a Blob without a name", () => {
  it("is not what FormData calls it", () => {
    expect(titleFromFileName("blob")).toBe("Recording");
    expect(titleFromFileName("blob.wav")).toBe("blob");
  });
});

describe("the name of a download", () => {
  it.each([
    ["song.wav", "song.mp3"],
    ["Song.WAV", "Song.mp3"],
    ["song.wave", "song.mp3"],
    ["song.mp3", "song.mp3"],
    ["song", "song.mp3"],
    ["v1.2 final.wav", "v1.2 final.mp3"],
    ["song.flac", "song.mp3"],
    ["song.txt", "song.txt.mp3"],
    ["song.wav.", "song.mp3"],
    ["Mr.", "Mr.mp3"],
    ["...And Justice for All", "And Justice for All.mp3"],
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
    ["COM¹", "_COM¹.mp3"],
    ["aux .x", "_aux .x.mp3"],
    ["CONOUT$", "_CONOUT$.mp3"],
    ["console", "console.mp3"],
    ["", "recording.mp3"],
    [".wav", "recording.mp3"],
    ["song.wav  ", "song.mp3"],
    ["...", "recording.mp3"],
    ["\u202E", "recording.mp3"],
    ["\u200D\u200B", "recording.mp3"],
    ["a\u200Bb\uFFFEc", "a b c.mp3"],
    ["🏴󠁧󠁢󠁥󠁮󠁧󠁿 👩‍👩‍👧 ❤️", "🏴󠁧󠁢󠁥󠁮󠁧󠁿 👩‍👩‍👧 ❤️.mp3"],
    ["می‌خواهم", "می‌خواهم.mp3"],
  ])("%p becomes %p", (name, fileName) => {
    expect(mp3FileName(name)).toBe(fileName);
  });

  it("is the first of several that leaves something", () => {
    expect(mp3FileName("Final mix", "ZOOM0007.WAV")).toBe("Final mix.mp3");
    expect(mp3FileName("???", "ZOOM0007.WAV")).toBe("ZOOM0007.mp3");
    expect(mp3FileName("...", ".wav")).toBe("recording.mp3");
  });

  it("is limited in length, and cut between characters", () => {
    expect(mp3FileName("a".repeat(10_000))).toBe(`${"a".repeat(200)}.mp3`);
    expect(mp3FileName("é".repeat(10_000))).toBe(`${"é".repeat(100)}.mp3`);
    const family = "👩‍👩‍👧";
    expect(mp3FileName(family.repeat(100))).toBe(`${family.repeat(11)}.mp3`);
    expect(mp3FileName(`a${"\u0301".repeat(10_000)}`)).toBe(`á${"\u0301".repeat(29)}.mp3`);
  });
});

describe("the Content-Disposition header", () => {
  it.each([
    ["song.mp3", "attachment; filename=song.mp3"],
    ["my song.mp3", 'attachment; filename="my song.mp3"'],
    [
      "naïve – ∫.mp3",
      "attachment; filename=\"naive - _.mp3\"; filename*=UTF-8''na%C3%AFve%20%E2%80%93%20%E2%88%AB.mp3",
    ],
    // Chromium decodes escapes in the plain parameter, and saves what it cannot decode under a name of its own.
    ["100%25.mp3", "attachment; filename=100_25.mp3; filename*=UTF-8''100%2525.mp3"],
    ["%E9t%e9.mp3", "attachment; filename=_E9t_e9.mp3; filename*=UTF-8''%25E9t%25e9.mp3"],
    ["50% off.mp3", 'attachment; filename="50% off.mp3"'],
    ["é'(*)%41.mp3", "attachment; filename=\"e'(-)_41.mp3\"; filename*=UTF-8''%C3%A9%27%28%2A%29%2541.mp3"],
    ["😀.mp3", "attachment; filename=recording.mp3; filename*=UTF-8''%F0%9F%98%80.mp3"],
    [
      "Straße “Ø” №1….mp3",
      "attachment; filename=\"Strasse 'O' No1.mp3\"; filename*=UTF-8''Stra%C3%9Fe%20%E2%80%9C%C3%98%E2%80%9D%20%E2%84%961%E2%80%A6.mp3",
    ],
    // Compatibility decomposition would turn these into characters that no file name may have.
    ["．．／a：b.mp3", "attachment; filename=a-b.mp3; filename*=UTF-8''%EF%BC%8E%EF%BC%8E%EF%BC%8Fa%EF%BC%9Ab.mp3"],
  ])("of %p is %s", (fileName, header) => {
    expect(contentDisposition(fileName, false)).toBe(header);
    expect(parse(header).parameters["filename"]).toBe(fileName);
  });

  it("plays in the page if requested", () => {
    expect(contentDisposition("song.mp3", true)).toBe("inline; filename=song.mp3");
  });

  it("is ASCII without control characters, whatever the upload was called", () => {
    for (let code = 0; code < 0x3000; code += 1) {
      expect(contentDisposition(mp3FileName(`a${String.fromCharCode(code)}b`), false)).toMatch(/^[ -~]+$/);
    }
  });
});
