import { describe, expect, it } from "@jest/globals";
import { checkedText, cleanText } from "../src/plain-text.ts";

const special = ["Dvořák: „Rusalka“ – 100 % & <b> 👩🏽 مرحبا", "👩‍👩‍👧‍👦", "می‌خواهم", "क्‍ष"];

describe("cleaning a text", () => {
  it("leaves one safe line", () => {
    const text = "  a\r\nb\tc\x00\x1b[31m\u202egnp.exe\u200b\u200f\ufeff \ud800";
    expect(cleanText(text, 100)).toBe("a b c[31mgnp.exe \ufffd");
    expect(cleanText("cafe\u0301", 100)).toBe("caf\u00e9");
  });

  it.each(special)("keeps %s", (text) => {
    expect(cleanText(text, 100)).toBe(text);
  });

  it("counts code points and leaves none in half", () => {
    expect(cleanText("🎵🎵🎵🎵", 3)).toBe("🎵🎵🎵");
    expect(cleanText("ab cd", 3)).toBe("ab");
  });

  it.each(["", " \n ", "\u200d\u200c", "\u200b"])("leaves nothing of what cannot be seen: %j", (text) => {
    expect(cleanText(text, 100)).toBe("");
  });
});

describe("checking a text", () => {
  it.each(special)("takes %s", (text) => {
    expect(checkedText(` ${text} `, "title", 100)).toBe(text);
  });

  it("takes as many characters as are allowed, in the composed form", () => {
    expect(checkedText("e\u0301".repeat(5), "title", 5)).toBe("\u00e9".repeat(5));
    expect(checkedText("🎵".repeat(5), "title", 5)).toBe("🎵".repeat(5));
    expect(() => checkedText("🎵".repeat(6), "title", 5)).toThrow("at most 5 characters; it has 6");
  });

  it.each([
    "\0",
    "\n",
    "\x1b",
    "\x85",
    "\ud800",
    "\u061c",
    "\u200b",
    "\u200e",
    "\u202e",
    "\u2028",
    "\u2066",
    "\ufeff",
    "\ufffa",
  ])("refuses %j, which cleaning takes out", (character) => {
    const text = `a${character}b`;
    expect(() => checkedText(text, "title", 100)).toThrow(
      expect.objectContaining({ code: "BAD_USER_INPUT", message: expect.stringMatching(/^The title must not have/) }),
    );
    expect(cleanText(text, 100)).not.toContain(character);
  });

  it.each(["", "  ", "\u200d\u200c", "\u3000"])("refuses what is blank: %j", (text) => {
    expect(() => checkedText(text, "title", 100)).toThrow("must not be blank");
  });
});
