import iconv from "iconv-lite";

/** How to decode the bytes of a text. */
interface TextEncoding {
  /** Microsoft's number of the code page; undefined if none is stated. */
  readonly codePage?: number | undefined;
  /** Whether the text may be truncated, even inside a character. */
  readonly isCut?: boolean;
}

/** The values of a CSET chunk (Microsoft Multimedia Programming Interface 1.0, "CSET (Character Set) Chunk"). */
interface CharacterSet {
  /** 0 if not stated. */
  readonly codePage: number;
  /** 0 if not stated. The numbers are those in the lower ten bits of a Windows LANGID. */
  readonly language: number;
  readonly dialect: number;
}

/** Code pages that iconv-lite knows only by name. */
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

/** Windows code pages by the language numbers of a CSET chunk, without Western ones. */
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

/** Code pages of the Latin alphabet. Text that is valid UTF-8 makes no sense in them. */
const latinCodePages = new Set([
  437, 850, 852, 858, 1250, 1252, 1254, 1257, 1258, 10_000, 28_591, 28_592, 28_605, 20_127,
]);

/** This many non-ASCII characters are never valid UTF-8 by chance, whatever the code page. */
const certainCharacters = 3;

/**
 * This many letters in words that look like another code page read as Windows-1252 are conclusive, even if the text is
 * Unicode.
 */
const certainlyForeign = 6;

/** The code page that a CSET chunk states, or that its language implies; undefined if neither is stated. */
export function codePageOf({ codePage, language, dialect }: CharacterSet): number | undefined {
  if (codePage !== 0) return codePage;
  const primary = language & 0x3ff;
  if (primary === 4) return dialect === 1 ? 950 : 936; // Chinese, traditional or simplified
  if (primary === 26) return dialect === 2 ? 1251 : 1250; // Serbo-Croatian, Cyrillic or Latin
  return languageCodePages[primary];
}

/**
 * Decodes the text of a chunk that states no encoding, up to its NUL: as UTF-16 if it has a BOM or looks like it, else
 * in the stated code page, else as UTF-8, else as Windows-1252.
 * @returns undefined if the result is not plausible in any language
 */
export function decodeUnlabelled(bytes: Buffer, encoding: TextEncoding): string | undefined {
  const order = markedOrder(bytes) ?? unmarkedOrder(bytes) ?? utf16CodePages[encoding.codePage ?? 0];
  if (order === undefined) return decodeBytes(untilNul(bytes), encoding);
  const text = utf16[order].decode(evenPart(bytes)).split("\0", 1)[0]!;
  return readable(encoding.isCut ? text.replace(/\ufffd$/u, "") : text);
}

/** Decodes UTF-16 with a BOM, or without one in the usual byte order. NUL separates its strings. */
export function decodeUtf16(bytes: Buffer, usualOrder: "le" | "be"): string | undefined {
  const order = markedOrder(bytes) ?? (usualOrder === "le" ? unmarkedOrder(bytes) : undefined) ?? usualOrder;
  return readable(utf16[order].decode(evenPart(bytes)).replace(/\ufffd$/u, ""));
}

/** Decodes bytes of an encoding that contains ASCII: the stated one, else UTF-8, else Windows-1252. */
export function decodeBytes(bytes: Buffer, { codePage, isCut = false }: TextEncoding): string | undefined {
  const utf8 = decodeUtf8(bytes, isCut);
  if (utf8 !== undefined && (codePage === undefined || isCertainlyUtf8(utf8, codePage))) return readable(utf8);
  const stated = codePage === undefined ? undefined : decodeCodePage(bytes, codePage, isCut);
  if (stated !== undefined && isText(stated) && (!isWesternPage(codePage) || isWestern(stated))) return stated;
  if (utf8 !== undefined) return readable(utf8);
  const guess = iconv.decode(bytes, "win1252");
  return isText(guess) && isWestern(guess) ? guess : undefined;
}

/** Whether the code page is one that programs state even if it is wrong. */
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

/**
 * Byte order of UTF-16 without a BOM that begins with two letters of an alphabet: every second byte is one that no
 * other text has.
 */
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

/** Whether the text has neither control characters nor replacement characters. NUL separates strings. */
function isText(text: string): boolean {
  return !/(?![\0\t\n\r])\p{Cc}|[\ufffd-\uffff]/u.test(text);
}

/** Returns Unicode text, unless it looks like bytes of another encoding that were read as Windows-1252. */
function readable(text: string): string | undefined {
  const foreignLetters = words(text)
    .filter((word) => word.length > 2 && isForeign(word))
    .join("").length;
  return isText(text) && !isMisreadUtf8(text) && foreignLetters < certainlyForeign ? text : undefined;
}

/** Whether this is UTF-8 that was read as Windows-1252: "Ã©" for "é". */
function isMisreadUtf8(text: string): boolean {
  if (!/[\u00c2-\u00f4][^\0-\x7f]/u.test(text)) return false;
  const bytes = iconv.encode(text, "win1252");
  return iconv.decode(bytes, "win1252") === text && decodeUtf8(bytes, false) !== undefined;
}

/** Letters that occur next to each other without ASCII between them: in German and Nordic, in Icelandic and Spanish. */
const neighbours = [/^[äöüßåæøõ]+$/iu, /^[áéíóúýæðþö]+$/iu];

/** Signs that lead bytes of Japanese and other code pages turn into, and that Western titles do not use. */
const foreignSigns = /[ƒˆ˜‰‡\u00ad]|‚(?![^‚]*‘)/u;
/** Signs that occur at most once in a title. */
const rareSigns = /[¢¤¥¦¨¬¯±µ¶¸¹¼½¾÷]/gu;
/** Signs that never occur inside a word. */
const signInWord = /\p{L}[¡¢£¤¥¦§¨©¬®¯±²³¶¸¹¼½¾¿÷“”„•™€{}]+\p{L}/u;
const capitalBehindSmall = /[a-zß-öø-ÿ][À-ÖØ-ÞŠŒŽŸ]/u;

/**
 * Whether text read as Windows-1252 is plausible in a language that uses it. Text of other code pages looks different.
 */
function isWestern(text: string): boolean {
  if (foreignSigns.test(text) || signInWord.test(text) || capitalBehindSmall.test(text)) return false;
  if (words(text).some(isForeign) || (text.match(rareSigns)?.length ?? 0) > 1) return false;
  const signs = text.match(/[^\0-\x7f\p{L}]/gu)?.length ?? 0;
  return signs === 0 || /[a-z\d]/iu.test(text);
}

function words(text: string): readonly string[] {
  return text.match(/\p{L}+/gu) ?? [];
}

/**
 * Whether a word consists of the upper half of Windows-1252, as words in Cyrillic, Greek or Chinese do when read so.
 */
function isForeign(word: string): boolean {
  const upper = word.replaceAll(/[^\u00c0-\u00ffŠšŽžŒœŸ]/gu, "");
  if (neighbours.some((letters) => letters.test(upper))) return false;
  return (
    (word.length > 1 && upper.length === word.length) || (upper.length > 2 && upper.length > (2 / 3) * word.length)
  );
}
