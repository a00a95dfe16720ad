import { withoutLongMarkRuns } from "../input/plain-text.ts";

/** The texts of a recording that are searched. */
interface SearchedTexts {
  readonly title: string;
  readonly fileName: string;
  readonly tags: readonly { readonly value: string }[];
}

/** Maximum sizes in bytes. Together they must fit into an entry of a PostgreSQL index, which has at most 2704 bytes. */
export const maxTitleKeyBytes = 200;
const maxSearchTextBytes = 2000;

/** Maximum number of words of a search. More would make it slow. */
export const maxSearchWords = 8;

/** Letters that Unicode does not decompose into a base letter and an accent. */
const decomposedLetters: Readonly<Record<string, string>> = {
  ß: "ss",
  ẞ: "SS",
  æ: "ae",
  Æ: "AE",
  œ: "oe",
  Œ: "OE",
  ø: "o",
  Ø: "O",
  đ: "d",
  Đ: "D",
  ð: "d",
  Ð: "D",
  þ: "th",
  Þ: "TH",
  ħ: "h",
  Ħ: "H",
  ł: "l",
  Ł: "L",
  ı: "i",
};

/** The sort key of a title: its beginning without case and accents. */
export function titleKeyOf(title: string): string {
  return codePointsWithin(fold(title), maxTitleKeyBytes);
}

/** The text that is searched: the first 2000 bytes of title, file name and tags without case and accents. */
export function searchTextOf({ title, fileName, tags }: SearchedTexts): string {
  return codePointsWithin(fold([title, fileName, ...tags.map(({ value }) => value)].join("\n")), maxSearchTextBytes);
}

/**
 * The words of a search, normalised as in {@link searchTextOf}. Control characters separate words like white space:
 * they never occur in the searched text, and PostgreSQL does not accept NUL.
 */
export function searchWords(text: string): string[] {
  return [...new Set(fold(text).split(/[\s\p{Cc}]+/u))].filter((word) => word !== "").slice(0, maxSearchWords);
}

/** Converts a text to Unicode's compatibility decomposition (NFKD) in lower case, without combining marks. */
function fold(text: string): string {
  return plainLetters(text).toLowerCase().replaceAll("ς", "σ");
}

/**
 * Converts a text to Unicode's compatibility decomposition (NFKD) without combining marks, and replaces Latin letters
 * that this leaves, such as ß.
 */
export function plainLetters(text: string): string {
  return withoutLongMarkRuns(text.toWellFormed())
    .normalize("NFKD")
    .replace(/\p{Script=Inherited}/gu, "")
    .replace(/[ßẞæÆœŒøØđĐðÐþÞħĦłŁı]/gu, (letter) => decomposedLetters[letter]!);
}

/** The longest beginning of a text that fits, cut between code points, because it is never shown. */
function codePointsWithin(text: string, maxBytes: number): string {
  const { read } = new TextEncoder().encodeInto(text, new Uint8Array(maxBytes));
  return text.slice(0, read);
}
