import { ServiceError } from "../errors/errors.ts";

/** Maximum nesting of JSON, far more than any argument of the schema needs. */
const maxJsonDepth = 64;

/**
 * Refuses a JSON text that would take much more memory than it has bytes, before it is parsed: `[{},{},...]` takes
 * twenty times its length.
 *
 * @param what the name of the text, to begin a sentence
 * @throws {ServiceError} BAD_REQUEST with `maxDepth` or `maxValues`
 */
export function refuseLargeJson(what: string, json: string, maxValues: number): void {
  const { depth, values } = jsonSize(json, maxValues);
  if (depth > maxJsonDepth) {
    const message = `${what} is nested too deeply. At most ${maxJsonDepth} levels are allowed.`;
    throw new ServiceError("BAD_REQUEST", message, { maxDepth: maxJsonDepth });
  }
  if (values > maxValues) {
    throw new ServiceError("BAD_REQUEST", `${what} has more than ${maxValues} values. Send less in one request.`, {
      maxValues,
    });
  }
}

/** Counts the nesting of brackets and, as an upper bound, the values. The count stops when it exceeds the limit. */
export function jsonSize(json: string, maxValues: number): { depth: number; values: number } {
  let depth = 0;
  let deepest = 0;
  let values = 1;
  let insideString = false;
  for (let i = 0; i < json.length && deepest <= maxJsonDepth && values <= maxValues; i++) {
    const character = json.charCodeAt(i);
    if (insideString) {
      if (character === backslash) i++;
      else if (character === quote) insideString = false;
    } else if (character === quote) insideString = true;
    else if (character === comma) values++;
    else if (character === openBracket || character === openBrace) {
      values++;
      deepest = Math.max(deepest, ++depth);
    } else if (character === closeBracket || character === closeBrace) depth--;
  }
  return { depth: deepest, values };
}

// Compare character codes, because in a non-Latin text each character as a string would be a new object.
const quote = 0x22;
const comma = 0x2c;
const openBracket = 0x5b;
const backslash = 0x5c;
const closeBracket = 0x5d;
const openBrace = 0x7b;
const closeBrace = 0x7d;
