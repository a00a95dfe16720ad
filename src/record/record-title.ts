import { checkedText, cleanText } from "../input/plain-text.ts";
import { withoutAudioEnding } from "./file-name.ts";

/** Maximum length of a title, in characters. */
export const maxTitleLength = 1000;

/**
 * Checks a title from a user.
 * @throws {ServiceError} BAD_USER_INPUT if it is blank, too long or has characters that a title may not contain
 */
export function checkedTitle(given: string): string {
  return checkedText(given, "title", maxTitleLength);
}

/** The name that FormData gives to a Blob without a name, such as one from MediaRecorder. */
const nameOfNamelessBlob = "blob";

/** The file name without its extension; `Recording` if nothing is left or the client sent no name. */
export function titleFromFileName(fileName: string): string {
  if (fileName === nameOfNamelessBlob) return "Recording";
  return cleanText(withoutAudioEnding(fileName), maxTitleLength) || "Recording";
}
