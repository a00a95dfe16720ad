/**
 * Copies JSON with texts and names cut after `maxLength` characters. What JSON does not have, such as an upload, is kept as it is.
 * @returns the copy, and how many characters the texts and names had
 */
export function shorten<T>(original: T, maxLength: number): { copy: T; characters: number } {
  let characters = 0;
  function cut(text: string): string {
    characters += text.length;
    return text.length > maxLength ? text.slice(0, maxLength) : text;
  }
  function copyOf(value: unknown): unknown {
    if (typeof value === "string") return cut(value);
    if (Array.isArray(value)) return value.map(copyOf);
    if (!isPlainObject(value)) return value;
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [cut(name), copyOf(item)]));
  }
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- shorter texts are of the same types
  return { copy: copyOf(original) as T, characters };
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
