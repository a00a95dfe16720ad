/// <reference lib="dom" />
import { describe, expect, it } from "@jest/globals";
import { ApiError } from "../web/api/client.ts";
import type { Send, Stored } from "../web/api/send-onwards.ts";
import { filesOf } from "../web/queue/dropped-files.ts";
import { say, spoken } from "../web/look/notices.ts";
import { Queue, secondsLeft } from "../web/queue/queue.ts";
import { headBytes, readFacts } from "../web/queue/wav-facts.ts";
import { readTakeFormat, wavHeader } from "../web/recorder/wav-header.ts";
import { quoted } from "../web/words.ts";
import { sineWav } from "./support/wav-maker.ts";

const bytes = (text: string): Uint8Array => Uint8Array.from(text, (letter) => letter.charCodeAt(0));

describe("the facts that the page reads from a file before it sends it", () => {
  it("are length, rate and channels of a WAV, also if its size is not in the header yet", () => {
    const wav = new Uint8Array(sineWav({ seconds: 1.5, sampleRateHz: 44_100, channels: 2 }));
    const known = { isWav: true, sampleRateHz: 44_100, channels: 2, seconds: 1.5 };
    expect(readFacts(wav.subarray(0, headBytes), wav.length, "a.wav")).toEqual(known);
    const header = wavHeader({ sampleRateHz: 48_000, channels: 1 });
    expect(readFacts(header, header.length + 96_000 * 60, "take.wav")).toMatchObject({ seconds: 60 });
  });

  it("are the right ones in the other forms of WAV", () => {
    const wav = sineWav({ seconds: 1, sampleRateHz: 8000, channels: 1 });
    const sound = wav.subarray(wav.indexOf("data"));
    const ds64 = Buffer.concat([Buffer.from("ds64"), Buffer.from([28, 0, 0, 0]), Buffer.alloc(28)]);
    ds64.writeBigUInt64LE(BigInt(sound.length - 8), 16);
    const open = Buffer.from(sound);
    open.writeUInt32LE(0xffff_ffff, 4);
    const rf64 = Buffer.concat([
      Buffer.from("RF64"),
      Buffer.alloc(4, 255),
      Buffer.from("WAVE"),
      ds64,
      wav.subarray(12, 36),
      open,
    ]);
    expect(readFacts(rf64, rf64.length, "a.wav")).toMatchObject({ sampleRateHz: 8000, seconds: 1 });
    const id3 = Buffer.concat([Buffer.from("ID3\x04\x00\x00\x00\x00\x00\x10"), Buffer.alloc(16), wav]);
    expect(readFacts(id3, id3.length, "a.wav")).toMatchObject({ isWav: true, seconds: 1 });
  });

  it.each([
    ["fLaC", "a FLAC file"],
    ["ID3\x04\x00\x00\x00\x00\x00\x00\xff\xfb", "an MP3 file"],
    ["\xff\xfb\x90\x00", "an MP3 file"],
    ["\xff\xf1\x50\x80", "an AAC file"],
    ["OggS", "an Ogg file"],
    ["\0\0\0 ftypM4A ", "an MP4 or M4A file"],
    ["FORM\0\0\0\0AIFF", "an AIFF file"],
    ["RIFF\0\0\0\0AVI ", "an AVI video"],
    ["%PDF-1.7", "a PDF file"],
    ["Dear Ann", "another kind of file"],
    ["", "an empty file"],
  ])("name what is no WAV: %j is %s, whatever its name", (text, what) => {
    expect(readFacts(bytes(text), text.length, "song.txt")).toEqual({ isWav: false, what });
    const isKnown = !/another/.test(what); // what nobody knows, the service judges
    expect(readFacts(bytes(text), text.length, "song.wav")).toEqual(isKnown ? { isWav: false, what } : { isWav: true });
  });

  it("never fail, whatever the bytes are", () => {
    const wav = new Uint8Array(sineWav({ seconds: 0.1, sampleRateHz: 8000, channels: 1 }));
    for (let length = 0; length < 64; length++) {
      expect(readFacts(wav.subarray(0, length), length, "a.wav")).toHaveProperty("isWav");
      const noise = wav.map((byte, at) => (at >= 12 ? (byte * 31 + at * length) & 255 : byte));
      expect(readFacts(noise, noise.length, "a.wav")).toMatchObject({ isWav: true });
    }
  });
});

describe("the header of a take", () => {
  it("says the format, and the sizes once they are known", () => {
    const header = wavHeader({ sampleRateHz: 48_000, channels: 2 }, 400);
    expect(readTakeFormat(header.buffer)).toEqual({ sampleRateHz: 48_000, channels: 2 });
    const view = new DataView(header.buffer);
    expect([view.getUint32(4, true), view.getUint32(40, true)]).toEqual([436, 400]);
  });
});

describe("the queue of the page", () => {
  const wav = { isWav: true } as const;
  const stored = (name: string): Stored => ({ record: { id: name, title: name } as Stored["record"], created: true });

  /** A queue whose sender waits until the test answers, in the order in which files were sent. */
  function queueOf() {
    const sent: { name: string; key: string; answer: PromiseWithResolvers<Stored>; signal: AbortSignal }[] = [];
    const waits: PromiseWithResolvers<void>[] = [];
    const send: Send = async ({ name, key }, _onSent, signal) => {
      const answer = Promise.withResolvers<Stored>();
      signal.addEventListener("abort", () => answer.reject(signal.reason));
      sent.push({ name, key, answer, signal });
      return await answer.promise;
    };
    const forgotten: string[] = [];
    const queue = new Queue({
      send,
      token: async () => "token",
      keep: async () => true,
      onStored: ({ name }) => forgotten.push(name),
      onFailed: () => {},
      pause: async () => {
        const wait = Promise.withResolvers<void>();
        waits.push(wait);
        await wait.promise;
      },
    });
    const places = (): string[] => queue.files.value.map(({ name, place }) => `${name} ${place}`);
    const settle = async (): Promise<void> => await new Promise((resolve) => setImmediate(resolve));
    return { queue, sent, waits, forgotten, places, settle };
  }

  it("sends three files at once, the next when one is done, and none that is no WAV", async () => {
    const { queue, sent, places, settle, forgotten } = queueOf();
    for (const name of ["a", "b", "c", "d"]) queue.add(new Blob([name]), { name, key: name, facts: wav });
    queue.add(new Blob(["x"]), { name: "x", key: "x", facts: { isWav: false, what: "a FLAC file" } });
    await settle();
    expect(places()).toEqual(["a sending", "b sending", "c sending", "d waiting", "x refused"]);
    sent[1]!.answer.resolve(stored("b"));
    await settle();
    expect(places()).toEqual(["a sending", "b stored", "c sending", "d sending", "x refused"]);
    expect([sent.length, forgotten]).toEqual([4, ["b"]]);
  });

  it("expects the rest of a file to take as long as this attempt needs for it", async () => {
    let tell: (bytes: number) => void = () => {};
    const parts = {
      token: async () => "",
      keep: async () => true,
      onStored() {},
      onFailed() {},
      pause: async () => {},
    };
    const send: Send = async (_file, onSent) => {
      tell = onSent;
      return await new Promise<never>(() => {});
    };
    const queue = new Queue({ ...parts, send });
    queue.add(new Blob(["x".repeat(1000)]), { name: "a", key: "a", facts: wav });
    await new Promise((resolve) => setImmediate(resolve));
    // An earlier attempt has sent 800 of 1000 bytes.
    tell(800);
    expect(secondsLeft(queue.files.value[0]!)).toBeUndefined();
    tell(900);
    const [file] = queue.files.value;
    expect(file).toMatchObject({ place: "sending", hadBytes: 800, sentBytes: 900 });
    expect(secondsLeft({ ...file!, since: performance.now() - 5000 })).toBeCloseTo(5, 1);
  });

  it("goes on by itself with the same key after a passing failure, and asks after another", async () => {
    const { queue, sent, waits, places, settle, forgotten } = queueOf();
    queue.add(new Blob(["a"]), { name: "a", key: "a", facts: wav });
    await settle();
    sent[0]!.answer.reject(new ApiError("NETWORK", "away"));
    await settle();
    expect([places(), queue.files.value[0]!.code]).toEqual([["a waiting"], "NETWORK"]);
    waits[0]!.resolve();
    await settle();
    sent[1]!.answer.reject(new ApiError("QUOTA_EXCEEDED", "full"));
    await settle();
    expect([places(), waits.length, forgotten]).toEqual([["a failed"], 1, []]);
    queue.retryAll();
    await settle();
    sent[2]!.answer.resolve(stored("a"));
    await settle();
    expect([places(), new Set(sent.map(({ key }) => key)).size]).toEqual([["a stored"], 1]);
  });

  it("does not offer to send a file again that the service cannot convert", async () => {
    const { queue, sent, places, settle } = queueOf();
    queue.add(new Blob(["a"]), { name: "a", key: "a", facts: wav });
    await settle();
    sent[0]!.answer.reject(new ApiError("UNSUPPORTED_MEDIA", "It has no sound."));
    await settle();
    queue.retryAll();
    await settle();
    expect([places(), queue.files.value[0]!.message, sent.length]).toEqual([["a refused"], "It has no sound.", 1]);
  });

  it("stops a file that is paused or removed, and gives its place to another", async () => {
    const { queue, sent, places, settle } = queueOf();
    for (const name of ["a", "b", "c", "d", "e"]) queue.add(new Blob([name]), { name, key: name, facts: wav });
    await settle();
    queue.pause(sent[0]!.key);
    queue.remove(sent[1]!.key);
    await settle();
    expect([sent[0]!.signal.aborted, sent[1]!.signal.aborted]).toEqual([true, true]);
    expect(places()).toEqual(["a paused", "c sending", "d sending", "e sending"]);
    queue.retry(sent[0]!.key);
    sent[2]!.answer.resolve(stored("c"));
    await settle();
    expect(places()).toEqual(["a sending", "c stored", "d sending", "e sending"]);
  });
});

describe("the messages of the page", () => {
  it("cut a long title between two letters", () => {
    expect(quoted("🎵".repeat(40))).toBe(`“${"🎵".repeat(40)}”`);
    expect(quoted("🎵".repeat(41))).toBe(`“${"🎵".repeat(39)}…”`);
  });

  it("are said again when they come again", () => {
    say("The link is copied.");
    const before = spoken.value;
    say("The link is copied.");
    expect([spoken.value === before, spoken.value.trim()]).toEqual([false, before]);
  });
});

describe("what is dropped", () => {
  const fileEntry = (name: string, isReadable = true): object => ({
    isFile: true,
    name,
    file: (found: (file: File) => void, fail: (error: Error) => void) =>
      isReadable ? found(new File(["x"], name)) : fail(new Error("not readable")),
  });
  const folderEntry = (name: string, entries: readonly object[]): object => ({
    isDirectory: true,
    name,
    createReader: () => {
      let given = 0;
      return { readEntries: (found: (some: readonly object[]) => void) => found(entries.slice(given, (given += 100))) };
    },
  });
  const dropped = async (...entries: object[]) => {
    const items = entries.map((entry) => ({ kind: "file", webkitGetAsEntry: () => entry }));
    return await filesOf({ items } as unknown as DataTransfer);
  };

  it("has the files in all folders, without hidden ones, and counts those that cannot be read", async () => {
    const many = Array.from({ length: 230 }, (_, at) => fileEntry(`${at}.wav`));
    const inner = folderEntry("inner", [
      fileEntry(".hidden.wav"),
      fileEntry("broken.wav", false),
      fileEntry("last.wav"),
    ]);
    const { files, unread, isCut } = await dropped(folderEntry("outer", [...many, inner]), fileEntry("beside.wav"));
    expect([files.length, unread, isCut]).toEqual([232, 1, false]);
    expect(files.slice(-2).map(({ name }) => name)).toEqual(["last.wav", "beside.wav"]);
  });

  it("is cut at 2000 files, and says so", async () => {
    const { files, isCut } = await dropped(
      folderEntry(
        "all",
        Array.from({ length: 2001 }, () => fileEntry("a.wav")),
      ),
    );
    expect([files.length, isCut]).toEqual([2000, true]);
  });
});
