import { checkedText, cleanText } from "../input/plain-text.ts";
import { withoutAudioEnding } from "./file-name.ts";

/** Characters of a title, at most. */
export const maxTitleLength = 1000;

/**
 * A title that a user gives, with an upload or later.
 * @throws {ServiceError} BAD_USER_INPUT when it is blank, too long or has characters that no title may have
 */
export function checkedTitle(given: string): string {
  return checkedText(given, "title", maxTitleLength);
}

/** What the FormData of browsers and Node calls a Blob without a name, such as one of MediaRecorder. */
const nameOfNamelessBlob = "blob";

/** `take 3.wav` without its ending; `Recording` if nothing is left, or the client had no name. */
export function titleFromFileName(fileName: string): string {
  if (fileName === nameOfNamelessBlob) return "Recording";
  return cleanText(withoutAudioEnding(fileName), maxTitleLength) || "Recording";
}
