import { describe, expect, it } from "@jest/globals";
import { checkedText, cleanText, composed } from "../src/input/plain-text.ts";
import { mp3FileName } from "../src/record/file-name.ts";
import { searchTextOf, searchWords, titleKeyOf } from "../src/record/search-text.ts";

const special = ["Dvořák: „Rusalka“ – 100 % & <b> 👩🏽 مرحبا", "👩‍👩‍👧‍👦", "می‌خواهم", "क्‍ष"];

describe("cleaning a text", () => {
  it("results in one safe line", () => {
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

describe("a text of a million combining marks, which Unicode's normalisation would sort for minutes,", () => {
  // Marks in the wrong order: below the letter, above it.
  const marks = "\u0301\u0323".repeat(500_000);

  it("is cleaned, keeping 30 of them", () => {
    expect(cleanText(`a${marks}b`, 100)).toBe(`a${"\u0301\u0323".repeat(15)}`.normalize("NFC"));
    expect(cleanText(`${marks}${"\u0301".repeat(99)}`, 5)).toHaveLength(5);
  });

  it("is refused for its length", () => {
    expect(() => checkedText(`a${marks}`, "name", 100)).toThrow("at most 100 characters; it has 1000001");
  });

  it("is composed, compared and searched for", () => {
    expect(composed(`a${marks}`)).toHaveLength(30);
    expect(searchWords(`a${marks} b`)).toEqual(["a", "b"]);
    expect(titleKeyOf(`Ä${marks}`)).toBe("a");
    expect(searchTextOf({ title: `a${marks}`, fileName: "b", tags: [] })).toBe("a\nb");
  });

  it("makes a file name", () => {
    expect(mp3FileName(`a${marks}`)).toBe(`${composed(`a${marks}`)}.mp3`);
  });
});

describe("a text with a few marks", () => {
  it("keeps them all", () => {
    const zalgo = `Z${"\u0301\u0300".repeat(15)}algo`;
    expect(checkedText(zalgo, "title", 100)).toBe(zalgo.normalize("NFC"));
    expect(checkedText(`e${"\u0323\u0301".repeat(40)}`, "title", 100)).toHaveLength(30);
  });

  it("may be as long in its decomposed form as four units for each character", () => {
    expect(checkedText("\u03b1\u0314\u0300\u0345".repeat(100), "title", 100)).toBe("\u1f83".repeat(100));
  });
});
