import { withoutLongMarkRuns } from "../input/plain-text.ts";

/** What of a record is searched. */
export interface SearchedTexts {
  readonly title: string;
  readonly fileName: string;
  readonly tags: readonly { readonly value: string }[];
}

/** Together they must fit into an entry of a PostgreSQL index, which takes 2704 bytes. */
export const maxTitleKeyBytes = 200;
const maxSearchTextBytes = 2000;

/** Words of a search that count; further ones would make it slow. */
export const maxSearchWords = 8;

/** Letters that Unicode does not take apart into a base letter and an accent. */
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

/** What titles are sorted by: the start of the title without case and accents. */
export function titleKeyOf(title: string): string {
  return codePointsWithin(fold(title), maxTitleKeyBytes);
}

/** What a text is looked for in: title, file name and tags without case and accents; the first 2000 bytes of them. */
export function searchTextOf({ title, fileName, tags }: SearchedTexts): string {
  return codePointsWithin(fold([title, fileName, ...tags.map(({ value }) => value)].join("\n")), maxSearchTextBytes);
}

/**
 * The words of a search, in the spelling of {@link searchTextOf}. Control characters part words as white space does: none
 * is ever found, and PostgreSQL takes no NUL in a text.
 */
export function searchWords(text: string): string[] {
  return [...new Set(fold(text).split(/[\s\p{Cc}]+/u))].filter((word) => word !== "").slice(0, maxSearchWords);
}

/** Unicode's compatibility decomposition (NFKD) without combining marks, in lower case. */
function fold(text: string): string {
  return plainLetters(text).toLowerCase().replaceAll("ς", "σ");
}

/** Unicode's compatibility decomposition (NFKD) without combining marks and Latin letters that it leaves, such as ß. */
export function plainLetters(text: string): string {
  return withoutLongMarkRuns(text.toWellFormed())
    .normalize("NFKD")
    .replace(/\p{Script=Inherited}/gu, "")
    .replace(/[ßẞæÆœŒøØđĐðÐþÞħĦłŁı]/gu, (letter) => decomposedLetters[letter]!);
}

/** The longest start of a text that fits, cut between code points: nobody sees it. */
function codePointsWithin(text: string, maxBytes: number): string {
  const { read } = new TextEncoder().encodeInto(text, new Uint8Array(maxBytes));
  return text.slice(0, read);
}
