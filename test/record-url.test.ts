import { describe, expect, it } from "@jest/globals";
import { asksForInline, linkParameters, parseLink, parseRecordAddress, parseSecret } from "../src/record/parse-link.ts";

const recordId = "0d9ad2b4-6e6f-4f6a-9f0b-0c2f4a3f8f11";
const address = { recordId, userId: 512 };
const noSpace = "\u200b";

function addressIn(url: string, idInPath?: string): unknown {
  return parseRecordAddress(linkParameters(url), idInPath);
}

describe("a plain link", () => {
  it("is read up to the length that a request may have, and no further", () => {
    const link = (more: string) => new URL(`http://a.example/record?id=${recordId}&user=512${more}`);
    expect(parseLink(link("&a".repeat(8000)))).toEqual(address);
    expect(() => parseLink(link("&a".repeat(9000)))).toThrow(expect.objectContaining({ code: "NOT_FOUND" }));
  });

  it.each([
    ["as it is", `/record?id=${recordId}&user=512`],
    ["in the ancestor's spelling", `/record?audio_id=${recordId}&user_id=512`],
    ["from HTML as it stands in the source", `/record?id=${recordId}&amp;user=512`],
    ["escaped for HTML twice", `/record?id=${recordId}&amp;amp;user=512`],
    ["escaped for HTML without the semicolon", `/record?id=${recordId}&ampuser=512`],
    ["escaped for HTML by number", `/record?id=${recordId}&#38;user=512`],
    ["from JSON as it stands in the source", String.raw`/record?id=${recordId}\u0026user=512`],
    ["from JSON, and then escaped", `/record?id=${recordId}%5Cu0026user=512`],
    ["with its separators escaped", `/record?id%3D${recordId}%26user%3D512`],
    ["escaped twice", `/record?id%253D${recordId}%2526user%253D512`],
    ["from HTML, and then escaped", `/record?id=${recordId}%26amp%3Buser=512`],
    ["with a second question mark", `/record?id=${recordId}&user=512?utm_source=feed`],
    ["with a question mark between its parameters", `/record?id=${recordId}?user=512`],
    ["with semicolons between its parameters", `/record?id=${recordId};user=512`],
    ["with a fragment", `/record?id=${recordId}&user=512#t=30`],
    ["with what trackers add", `/record?utm_source=a&id=${recordId}&fbclid=x-y_z&user=512&utm_medium=email`],
    ["in capitals", `/record?ID=${recordId.toUpperCase()}&USER=512`],
    ["with the id in braces", `/record?id=%7B${recordId}%7D&user=512`],
    ["with the id as a URN", `/record?id=urn:uuid:${recordId}&user=512`],
    ["with the id without hyphens", `/record?id=${recordId.replaceAll("-", "")}&user=512`],
    ["with other hyphens", `/record?id=${encodeURIComponent(recordId.replaceAll("-", "\u2011"))}&user=512`],
    ["with each parameter twice", `/record?id=${recordId}&user=512&id=${recordId}&user=512`],
    ["with an empty parameter", `/record?id=&user=&id=${recordId}&user=512`],
    ["with spaces around its values", `/record?id=%20${recordId}%20&user=+512+`],
    ["with zeros", `/record?id=${recordId}&user=00512`],
    ["with an ending for a player", `/record?id=${recordId}&user=512.mp3`],
    ["as quoted-printable mail has it", `/record?id=3D${recordId}&user=3D512`],
    ["with a line broken by mail", `/record?id=${recordId.slice(0, 20)}=%0D%0A${recordId.slice(20)}&user=512`],
    ["with a line broken by mail and joined", `/record?id=${recordId.slice(0, 20)}=${recordId.slice(20)}&user=512`],
    ["with a line broken before a name", `/record?id=${recordId}&%0A%20user=512`],
    [
      "with characters without width",
      `/record?id=${encodeURIComponent(noSpace + recordId + noSpace)}&user=512%EF%BB%BF`,
    ],
    ["with a soft hyphen", `/record?id=${recordId.slice(0, 9)}%C2%AD${recordId.slice(9)}&user=512`],
  ])("is read %s", (_how, url) => {
    expect(addressIn(url)).toEqual(address);
  });

  it.each([
    ..."., ) ] } > ; : ! ' \" * _ ~ ` … 。 ） » ” | / \\".split(" "),
    ...'., ., ).  .) ), "> </a> \'> ." )** &gt; &quot; &nbsp; ... |text> ](x \\n \\r\\n をどうぞ'.split(" "),
    " ",
    "\n",
    "\u00a0",
    "\u202c",
  ])("is read with %j behind it", (junk) => {
    for (const text of [junk, encodeURIComponent(junk)]) {
      expect(addressIn(`/record?id=${recordId}&user=512${text}`)).toEqual(address);
      expect(addressIn(`/record?user=512&id=${recordId}${text}`)).toEqual(address);
      expect(addressIn(`/record?id=${recordId}&user=512&inline=1${text}`)).toEqual(address);
    }
  });

  it("may have its id in the path", () => {
    for (const path of [recordId, recordId.toUpperCase(), `{${recordId}}`, `${recordId}.mp3`, `${recordId}.`]) {
      expect(addressIn("/record/id/Tom%20&%20Ann.mp3?user=512", path)).toEqual(address);
    }
    expect(addressIn("/record/id/a.mp3&user=512", recordId)).toEqual(address);
    expect(addressIn(`/record/id/a.mp3?id=7&user=512`, recordId)).toEqual(address);
  });

  it.each([
    ["without an id", "/record?user=512", "The link needs the recording's id, a UUID: id=<record>."],
    ["with half an id", `/record?id=${recordId.slice(0, 30)}&user=512`, "The link needs the recording's id"],
    ["with more than an id", `/record?id=${recordId}a&user=512`, "The link needs the recording's id"],
    ["without a user", `/record?id=${recordId}`, "The link needs the user's id, a number: user=<user>."],
    ["with a user of no one's", `/record?id=${recordId}&user=0`, "The link needs the user's id"],
    ["with a negative user", `/record?id=${recordId}&user=-512`, "The link needs the user's id"],
    ["with a fraction as user", `/record?id=${recordId}&user=5.12`, "The link needs the user's id"],
    ["with a word as user", `/record?id=${recordId}&user=undefined`, "The link needs the user's id"],
    ["with a word behind the user", `/record?id=${recordId}&user=512th`, "The link needs the user's id"],
    ["with a user too large", `/record?id=${recordId}&user=99999999999`, "The link needs the user's id"],
    ["with two users", `/record?id=${recordId}&user=512&user=513`, "Give only one: this link has several."],
  ])("is refused %s", (_how, url, message) => {
    expect(() => addressIn(url)).toThrow(
      expect.objectContaining({ code: "BAD_USER_INPUT", message: expect.stringContaining(message) }),
    );
  });

  it("is read in a time that does not grow with its errors", () => {
    for (const junk of ["-", "&", "=", "%25", "\u200b", "a", "("]) {
      expect(() => addressIn(`/record?id=${junk.repeat(15_000)}`)).toThrow("The link needs the recording's id");
    }
  });

  it("plays in the page if requested", () => {
    const asks = (search: string): boolean => asksForInline(linkParameters(`/record?id=1${search}`));
    expect(["&inline=1", "&amp;inline=1.", "&inline", "&INLINE=1", "&inline=true", "%26inline%3D1"].map(asks)).toEqual([
      true,
      true,
      true,
      true,
      true,
      true,
    ]);
    expect(["", "&inline=0", "&inline=0.", "&inline=false", "&online=1"].map(asks)).toEqual([
      false,
      false,
      false,
      false,
      false,
    ]);
  });
});

describe("the secret of a link", () => {
  const secret = "aB3-_dEf6hIj9lMn2pQr5tUv8xYz-_12";

  it.each([
    "",
    ".",
    ",",
    ")",
    ").",
    ">",
    "]",
    '"',
    "'",
    "%",
    " ",
    "\u200b",
    "\n",
    "*",
    "**",
    "_",
    "…",
    "&fbclid=x",
    ".mp3",
    "?inline=1",
    '">x</a>',
  ])("is read with %j behind it", (junk) => {
    expect(parseSecret(secret + junk)).toBe(secret);
  });

  it.each([
    ["a line broken by mail", `${secret.slice(0, 9)}=\r\n${secret.slice(9)}`],
    ["a space in front", ` ${secret}`],
    ["angle brackets", `<${secret}>`],
    ["characters without width", `\ufeff${secret.slice(0, 20)}\u200b${secret.slice(20)}`],
  ])("is read with %s", (_what, text) => {
    expect(parseSecret(text)).toBe(secret);
  });

  it.each(["", secret.slice(1), `${secret}x`, `x${secret}`, `${secret}_x`, "%", recordId, undefined, 5])(
    "is not %j",
    (text) => {
      expect(parseSecret(text)).toBeUndefined();
    },
  );
});
