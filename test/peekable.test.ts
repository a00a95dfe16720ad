import { expect, it } from "@jest/globals";
import { Peekable } from "../src/audio/peekable.ts";

const pieces = ["ab", "cd", "ef"].map((text) => Buffer.from(text));

it.each([
  ["nobody reads it", async () => {}],
  ["its reader does not begin", async (sound: Peekable) => void sound.bytes()],
  [
    "its reader stops early",
    async (sound: Peekable) => {
      const reader = sound.bytes();
      await reader.next();
    },
  ],
  [
    "it was read to its end",
    async (sound: Peekable) => {
      const read: Buffer[] = [];
      for await (const bytes of sound.bytes()) read.push(bytes);
      expect(Buffer.concat(read).toString()).toBe("abcdef");
    },
  ],
])("a source that was looked at is ended if %s", async (_how, read) => {
  let isEnded = false;
  async function* source(): AsyncGenerator<Buffer, void, undefined> {
    try {
      yield* pieces;
    } finally {
      isEnded = true;
    }
  }
  {
    await using sound = new Peekable(source());
    expect(await sound.peek(3)).toBe(4);
    await read(sound);
  }
  expect(isEnded).toBe(true);
});
