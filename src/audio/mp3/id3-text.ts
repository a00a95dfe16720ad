/** The encodings of ID3v2.3. */
export const encodings = { latin1: 0, utf16: 1 } as const;

/** A text as a frame holds it. */
interface EncodedText {
  readonly encoding: (typeof encodings)[keyof typeof encodings];
  readonly bytes: Uint8Array;
}

/**
 * Encodes a text for ID3v2.3: ASCII as Latin-1, everything else as UTF-16 with a BOM. Windows reads Latin-1 in the code
 * page of the machine, so only ASCII is safe in it.
 */
export function encodedText(text: string): EncodedText {
  if (/^[\0-\x7f]*$/.test(text)) return { encoding: encodings.latin1, bytes: Buffer.from(text, "latin1") };
  return { encoding: encodings.utf16, bytes: Buffer.from(`\uFEFF${text}`, "utf16le") };
}
