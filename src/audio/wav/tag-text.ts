import iconv from "iconv-lite";

/** What the bytes of a text are read by. */
export interface TextEncoding {
  /** Code page by Microsoft's number; undefined when nothing states one. */
  readonly codePage?: number | undefined;
  /** Whether the end may be cut off, even inside a character. */
  readonly isCut?: boolean;
}

/** The figures of a CSET chunk (Microsoft Multimedia Programming Interface 1.0, "CSET (Character Set) Chunk"). */
export interface CharacterSet {
  /** 0 when not stated. */
  readonly codePage: number;
  /** 0 when not stated; Windows has the same numbers in the lower ten bits of a LANGID. */
  readonly language: number;
  readonly dialect: number;
}

/** Code pages that iconv-lite knows by a name only. */
const codePageNames: Readonly<Record<number, string>> = {
  10_000: "macintosh",
  10_006: "macgreek",
  10_007: "maccyrillic",
  10_029: "maccenteuro",
  20_127: "ascii",
  20_932: "eucjp",
  51_932: "eucjp",
  54_936: "gb18030",
};

/** Windows' code pages of languages by the numbers of a CSET chunk; Western ones are left out. */
const languageCodePages: Readonly<Record<number, number>> = {
  1: 1256, // Arabic
  2: 1251, // Bulgarian
  5: 1250, // Czech
  8: 1253, // Greek
  13: 1255, // Hebrew
  14: 1250, // Hungarian
  17: 932, // Japanese
  18: 949, // Korean
  21: 1250, // Polish
  24: 1250, // Romanian
  25: 1251, // Russian
  27: 1250, // Slovak
  28: 1250, // Albanian
  30: 874, // Thai
  31: 1254, // Turkish
  32: 1256, // Urdu
  34: 1251, // Ukrainian
  35: 1251, // Belarusian
  36: 1250, // Slovenian
  37: 1257, // Estonian
  38: 1257, // Latvian
  39: 1257, // Lithuanian
  41: 1256, // Persian
  42: 1258, // Vietnamese
};

/** Code pages of the Latin alphabet: what is valid UTF-8 makes no sense in them. */
const latinCodePages = new Set([
  437, 850, 852, 858, 1250, 1252, 1254, 1257, 1258, 10_000, 28_591, 28_592, 28_605, 20_127,
]);

/** So many characters beyond ASCII are never valid UTF-8 by chance, whatever the code page. */
const certainCharacters = 3;

/** So many letters in words that Windows-1252 made of another code page leave no doubt, though the text is Unicode now. */
const certainlyForeign = 6;

/** The code page of a CSET chunk, stated or by its language; undefined when it says nothing. */
export function codePageOf({ codePage, language, dialect }: CharacterSet): number | undefined {
  if (codePage !== 0) return codePage;
  const primary = language & 0x3ff;
  if (primary === 4) return dialect === 1 ? 950 : 936; // Chinese, traditional or simplified
  if (primary === 26) return dialect === 2 ? 1251 : 1250; // Serbo-Croatian, Cyrillic or Latin
  return languageCodePages[primary];
}

/**
 * Text of a chunk that states no encoding of its own, up to its NUL: UTF-16 if it has a mark or looks so, else in the
 * code page if one is stated, else UTF-8, else Windows-1252.
 * @returns undefined for what no language has
 */
export function decodeUnlabelled(bytes: Buffer, encoding: TextEncoding): string | undefined {
  const order = markedOrder(bytes) ?? unmarkedOrder(bytes) ?? utf16CodePages[encoding.codePage ?? 0];
  if (order === undefined) return decodeBytes(untilNul(bytes), encoding);
  const text = utf16[order].decode(evenPart(bytes)).split("\0", 1)[0]!;
  return readable(encoding.isCut ? text.replace(/\ufffd$/u, "") : text);
}

/** UTF-16 with a mark, or without one in the usual order. Strings in it are kept apart by NUL. */
export function decodeUtf16(bytes: Buffer, usualOrder: "le" | "be"): string | undefined {
  const order = markedOrder(bytes) ?? (usualOrder === "le" ? unmarkedOrder(bytes) : undefined) ?? usualOrder;
  return readable(utf16[order].decode(evenPart(bytes)).replace(/\ufffd$/u, ""));
}

/** Bytes of an encoding with ASCII in its lower half: what is stated, else UTF-8, else Windows-1252. */
export function decodeBytes(bytes: Buffer, { codePage, isCut = false }: TextEncoding): string | undefined {
  const utf8 = decodeUtf8(bytes, isCut);
  if (utf8 !== undefined && (codePage === undefined || isCertainlyUtf8(utf8, codePage))) return readable(utf8);
  const stated = codePage === undefined ? undefined : decodeCodePage(bytes, codePage, isCut);
  if (stated !== undefined && isText(stated) && (!isWesternPage(codePage) || isWestern(stated))) return stated;
  if (utf8 !== undefined) return readable(utf8);
  const guess = iconv.decode(bytes, "win1252");
  return isText(guess) && isWestern(guess) ? guess : undefined;
}

/** What programs state without knowing. */
function isWesternPage(codePage: number | undefined): boolean {
  return codePage === 1252 || codePage === 28_591;
}

function isCertainlyUtf8(text: string, codePage: number): boolean {
  const beyondAscii = text.match(/[^\0-\x7f]/gu)?.length ?? 0;
  return beyondAscii === 0 || beyondAscii >= certainCharacters || latinCodePages.has(codePage);
}

const utf16 = { le: new TextDecoder("utf-16le"), be: new TextDecoder("utf-16be") } as const;

function decodeUtf8(bytes: Buffer, isCut: boolean): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes, { stream: isCut });
  } catch {
    return undefined;
  }
}

function decodeCodePage(bytes: Buffer, codePage: number, isCut: boolean): string | undefined {
  const name = codePageNames[codePage] ?? String(codePage);
  if (!iconv.encodingExists(name)) return undefined;
  const text = iconv.decode(bytes, name);
  return isCut ? text.replace(/\ufffd$/u, "") : text;
}

function evenPart(bytes: Buffer): Buffer {
  return bytes.subarray(0, bytes.length & ~1);
}

function markedOrder(bytes: Buffer): "le" | "be" | undefined {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return "le";
  return bytes[0] === 0xfe && bytes[1] === 0xff ? "be" : undefined;
}

/** UTF-16 without a mark that begins with two letters of an alphabet: every second byte is one that no other text has. */
function unmarkedOrder(bytes: Buffer): "le" | "be" | undefined {
  if (bytes.length < 4) return undefined;
  const [first, second, third, fourth] = bytes.subarray(0, 4);
  if (second! <= 8 && fourth! <= 8 && first! > 8 && third! > 8) return "le";
  return first! <= 8 && third! <= 8 && second! > 8 && fourth! > 8 ? "be" : undefined;
}

function untilNul(bytes: Buffer): Buffer {
  const end = bytes.indexOf(0);
  return end < 0 ? bytes : bytes.subarray(0, end);
}

const utf16CodePages: Readonly<Record<number, "le" | "be">> = { 1200: "le", 1201: "be" };

/** Whether it has neither control characters nor replacements of what could not be read. NUL parts strings. */
function isText(text: string): boolean {
  return !/(?![\0\t\n\r])\p{Cc}|[\ufffd-\uffff]/u.test(text);
}

/** Unicode, unless it is what bytes became that were once taken for Windows-1252. */
function readable(text: string): string | undefined {
  const foreignLetters = words(text)
    .filter((word) => word.length > 2 && isForeign(word))
    .join("").length;
  return isText(text) && !isMisreadUtf8(text) && foreignLetters < certainlyForeign ? text : undefined;
}

/** "Ã©" for "é": UTF-8 that was read as Windows-1252. */
function isMisreadUtf8(text: string): boolean {
  if (!/[\u00c2-\u00f4][^\0-\x7f]/u.test(text)) return false;
  const bytes = iconv.encode(text, "win1252");
  return iconv.decode(bytes, "win1252") === text && decodeUtf8(bytes, false) !== undefined;
}

/** Letters that a language writes beside each other without ASCII in between: German and Nordic, Icelandic and Spanish. */
const neighbours = [/^[äöüßåæøõ]+$/iu, /^[áéíóúýæðþö]+$/iu];

/** Signs of lead bytes of Japanese and of other code pages, which Western titles do without. */
const foreignSigns = /[ƒˆ˜‰‡\u00ad]|‚(?![^‚]*‘)/u;
/** Signs of which a title has one at most. */
const rareSigns = /[¢¤¥¦¨¬¯±µ¶¸¹¼½¾÷]/gu;
/** Signs that never stand inside a word. */
const signInWord = /\p{L}[¡¢£¤¥¦§¨©¬®¯±²³¶¸¹¼½¾¿÷“”„•™€{}]+\p{L}/u;
const capitalBehindSmall = /[a-zß-öø-ÿ][À-ÖØ-ÞŠŒŽŸ]/u;

/** Whether text read as Windows-1252 could be of a language that is written in it; other code pages look different. */
function isWestern(text: string): boolean {
  if (foreignSigns.test(text) || signInWord.test(text) || capitalBehindSmall.test(text)) return false;
  if (words(text).some(isForeign) || (text.match(rareSigns)?.length ?? 0) > 1) return false;
  const signs = text.match(/[^\0-\x7f\p{L}]/gu)?.length ?? 0;
  return signs === 0 || /[a-z\d]/iu.test(text);
}

function words(text: string): readonly string[] {
  return text.match(/\p{L}+/gu) ?? [];
}

/** Whether a word is made of the upper half of Windows-1252, as all words of Cyrillic, Greek or Chinese then are. */
function isForeign(word: string): boolean {
  const upper = word.replaceAll(/[^\u00c0-\u00ffŠšŽžŒœŸ]/gu, "");
  if (neighbours.some((letters) => letters.test(upper))) return false;
  return (
    (word.length > 1 && upper.length === word.length) || (upper.length > 2 && upper.length > (2 / 3) * word.length)
  );
}
