import type { HeaderParameter } from "./header-parameters.ts";

/**
 * The file name in a `Content-Disposition`, as people wrote it and without folders; undefined if there is none. A
 * parameter that cannot be decoded counts as absent (RFC 6266 section 4.3). If no part of a name can be decoded, it is
 * empty. `filename*` is preferred.
 */
export function sentFileName(parameters: readonly HeaderParameter[]): string | undefined {
  const sent = parameters.filter(({ name }) => name === "filename" || name.startsWith("filename*"));
  if (sent.length === 0) return undefined;
  const valuesOf = (name: string) => sent.filter((parameter) => parameter.name === name).map(({ value }) => value);
  const names = [
    ...valuesOf("filename*").map(readExtended),
    readContinued(sent),
    ...valuesOf("filename").map(readPlain),
  ];
  return withoutFolders(names.find((name) => name !== undefined && name !== "") ?? "");
}

/** Decodes bytes and removes a BOM; undefined if they are not valid in this charset, or if it is unknown. */
export function decoded(bytes: Uint8Array, charset: string): string | undefined {
  try {
    return new TextDecoder(charset, { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** `utf-8''M%C3%BCnchen.wav` (RFC 8187), also with unescaped characters and in quotes. */
function readExtended(value: string): string | undefined {
  const { charset, text } = splitExtended(value);
  return decoded(percentDecoded(text.replace(/^"(.*)"$/s, "$1")), charset);
}

function splitExtended(value: string): { charset: string; text: string } {
  const [, charset, text] = /^([^']*)'[^']*'(.*)$/s.exec(value) ?? ["", "", value];
  return { charset: charset || "utf-8", text };
}

/** `filename*0="a"; filename*1*=%C3%BC` (RFC 2231 section 3). */
function readContinued(parameters: readonly HeaderParameter[]): string | undefined {
  const values = new Map(parameters.map(({ name, value }) => [name, value]));
  const pieces: Buffer[] = [];
  let charset: string | undefined;
  for (let index = 0; ; index++) {
    const plain = values.get(`filename*${index}`);
    const extended = values.get(`filename*${index}*`);
    if (extended !== undefined) {
      const first = index === 0 ? splitExtended(extended) : { charset: charset ?? "utf-8", text: extended };
      charset = first.charset;
      pieces.push(percentDecoded(first.text));
    } else if (plain !== undefined) pieces.push(Buffer.from(plain));
    else break;
  }
  if (pieces.length === 0) return undefined;
  return charset === undefined ? readPlain(Buffer.concat(pieces).toString()) : decoded(Buffer.concat(pieces), charset);
}

const encodedWord = /=\?([^?*\s]+)(?:\*[^?\s]*)?\?([bq])\?([^?]*)\?=/gi;

function readPlain(value: string): string | undefined {
  if (/^utf-8'\w*'/i.test(value)) return readExtended(value); // meant for `filename*`
  return value.search(encodedWord) < 0 ? withoutEscapes(withoutReferences(value)) : readEncodedWords(value);
}

/** `=?utf-8?B?VMO8ci53YXY=?=` (RFC 2047): .NET and JavaMail use them in `filename`, where they are not allowed. */
function readEncodedWords(text: string): string | undefined {
  const runs: { charset: string; bytes: Buffer[] }[] = [];
  let end = 0;
  for (const { 0: word, 1: charset, 2: encoding, 3: content, index } of text.matchAll(encodedWord)) {
    const between = text.slice(end, index);
    // White space between two encoded words is ignored, and may split a character.
    if (between.trim() !== "" || end === 0) runs.push({ charset: "utf-8", bytes: [Buffer.from(between)] });
    const bytes = encoding!.toLowerCase() === "b" ? Buffer.from(content!, "base64") : quotedDecoded(content!);
    const last = runs.at(-1);
    if (last && last.charset === charset!.toLowerCase()) last.bytes.push(bytes);
    else runs.push({ charset: charset!.toLowerCase(), bytes: [bytes] });
    end = index + word.length;
  }
  runs.push({ charset: "utf-8", bytes: [Buffer.from(text.slice(end))] });
  const texts = runs.map(({ charset, bytes }) => decoded(Buffer.concat(bytes), charset));
  return texts.includes(undefined) ? undefined : texts.join("");
}

/** The Q encoding of RFC 2047 section 4.2. */
function quotedDecoded(content: string): Buffer {
  return percentDecoded(
    content
      .replaceAll("%", "%25")
      .replaceAll("_", " ")
      .replaceAll(/=([\da-f]{2})/gi, "%$1"),
  );
}

/** `&#246;`: browsers write characters so that the charset of an older page does not have (HTML section 4.10.21.8). */
function withoutReferences(value: string): string {
  return value.replaceAll(/&#(\d{3,7});/g, (reference, digits: string) => {
    const codePoint = Number(digits);
    return codePoint > 0x7f && codePoint <= 0x10_ffff ? String.fromCodePoint(codePoint) : reference;
  });
}

const percentEscape = /%[\da-f]{2}/gi;

/**
 * Decodes percent escapes if the name was evidently escaped. React Native and Java's URLEncoder escape names; browsers
 * escape only quotes and line breaks. `50%50 mix` and `80%20 rule` are not escaped: no program escapes letters and
 * digits, or one space but not the other.
 */
function withoutEscapes(value: string): string {
  const escaped = decoded(percentDecoded(value.match(percentEscape)?.join("") ?? ""), "utf-8");
  const whole = decoded(percentDecoded(value), "utf-8");
  const raw = value.replaceAll(percentEscape, "");
  const rawCharacters = new Set(raw);
  const isEvident =
    escaped !== undefined &&
    whole !== undefined &&
    !/[\w.-]/.test(escaped) &&
    !rawCharacters.has("%") &&
    !(/[^\0-\x7f]/.test(escaped) && /[^\0-\x7f]/.test(raw)) &&
    !Array.from(escaped).some((character) => rawCharacters.has(character));
  if (!isEvident) return value.replaceAll(/%(?:22|0d|0a)/gi, decodeURIComponent);
  const isFormEncoded = escaped !== "" && !escaped.includes(" ") && /^[\w.*+-]*$/.test(raw);
  return isFormEncoded ? decoded(percentDecoded(value.replaceAll("+", " ")), "utf-8")! : whole;
}

/** The UTF-8 bytes of a text, with each `%XX` replaced by its byte. */
function percentDecoded(text: string): Buffer {
  const bytes = Buffer.from(text).toString("latin1");
  const unescaped = bytes.replaceAll(percentEscape, (escape) =>
    String.fromCharCode(Number.parseInt(escape.slice(1), 16)),
  );
  return Buffer.from(unescaped, "latin1");
}

/** The last component of a path of any operating system. */
function withoutFolders(name: string): string {
  const last = name.split(/[/\\]/).findLast((component) => component.trim() !== "") ?? "";
  return /^\.{1,2}$/.test(last.trim()) ? "" : last;
}
