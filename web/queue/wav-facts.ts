/** How many bytes of a file tell what it is. */
export const headBytes = 65_536;

/** What the head of a file says. `seconds` and the others are missing where the head does not say them. */
export type FileFacts =
  | { readonly isWav: true; readonly sampleRateHz?: number; readonly channels?: number; readonly seconds?: number }
  | { readonly isWav: false; readonly what: string };

/** The first bytes of other files, with the offset at which they are. */
const signatures: readonly [offset: number, text: string, what: string][] = [
  [0, "fLaC", "a FLAC file"],
  [0, "OggS", "an Ogg file"],
  [0, "FORM", "an AIFF file"],
  [4, "ftyp", "an MP4 or M4A file"],
  [0, "caff", "a CAF file"],
  [0, "\x1aE\xdf\xa3", "a WebM or Matroska file"],
  [0, "\x30\x26\xb2\x75", "a WMA file"],
  [0, "PK\x03\x04", "a ZIP file"],
  [0, "%PDF", "a PDF file"],
  [0, "\x89PNG", "a picture"],
  [0, "\xff\xd8\xff", "a picture"],
];

const unknownSizes = new Set([0, 0xffff_ffff, 0x7fff_ffff]);

/**
 * Reads what a file is from its first {@link headBytes}.
 * @param sizeBytes size of the whole file
 */
export function readFacts(head: Uint8Array, sizeBytes: number, name: string): FileFacts {
  const bytes = afterId3(head);
  const offset = head.length - bytes.length;
  const text = (at: number, length: number): string => String.fromCharCode(...bytes.subarray(at, at + length));
  if (sizeBytes === 0) return { isWav: false, what: "an empty file" };
  const form = text(0, 4);
  if (["RIFF", "RIFX", "RF64", "BW64"].includes(form) && text(8, 4) === "WAVE") {
    return { isWav: true, ...chunkFacts(bytes, sizeBytes - offset, form === "RIFX") };
  }
  if (form === "riff" && text(24, 4) === "wave") return { isWav: true }; // Sony Wave64
  if (form === "RIFF" && text(8, 4) === "AVI ") return { isWav: false, what: "an AVI video" };
  if (form === "RIFF" && text(8, 4) === "WEBP") return { isWav: false, what: "a picture" };
  for (const [at, start, what] of signatures) if (text(at, start.length) === start) return { isWav: false, what };
  if (offset > 0 || (bytes[0] === 0xff && (bytes[1]! & 0xe6) === 0xe2)) return { isWav: false, what: "an MP3 file" };
  if (bytes[0] === 0xff && (bytes[1]! & 0xf6) === 0xf0) return { isWav: false, what: "an AAC file" };
  if (/\.(?:wave?|w64|rf64|bw64|bwf)$/i.test(name)) return { isWav: true };
  return { isWav: false, what: "another kind of file" };
}

/** The bytes after an ID3v2 tag, which may precede a WAV. */
function afterId3(bytes: Uint8Array): Uint8Array {
  if (String.fromCharCode(...bytes.subarray(0, 3)) !== "ID3" || bytes.length < 10) return bytes;
  const size = (bytes[6]! << 21) | (bytes[7]! << 14) | (bytes[8]! << 7) | bytes[9]!;
  return bytes.subarray(Math.min(10 + size, bytes.length));
}

function chunkFacts(bytes: Uint8Array, sizeBytes: number, isBigEndian: boolean): object {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const little = !isBigEndian;
  let bytesPerSecond: number | undefined;
  let facts: { sampleRateHz?: number; channels?: number } = {};
  let dataBytes64: number | undefined;
  for (let at = 12; at + 8 <= bytes.length;) {
    const id = String.fromCharCode(...bytes.subarray(at, at + 4));
    const size = view.getUint32(at + 4, little);
    if (id === "ds64" && at + 24 <= bytes.length) dataBytes64 = Number(view.getBigUint64(at + 16, little));
    if (id === "fmt " && at + 24 <= bytes.length) {
      facts = { channels: view.getUint16(at + 10, little), sampleRateHz: view.getUint32(at + 12, little) };
      bytesPerSecond = view.getUint32(at + 16, little) || undefined;
    }
    if (id === "data") {
      const rest = sizeBytes - at - 8;
      const stated = size === 0xffff_ffff && dataBytes64 ? dataBytes64 : size;
      const soundBytes = unknownSizes.has(stated) || stated > rest ? rest : stated;
      return bytesPerSecond === undefined ? facts : { ...facts, seconds: soundBytes / bytesPerSecond };
    }
    at += 8 + size + (size % 2);
  }
  return facts;
}

/** A sentence of a file's facts, such as `1:32, 44.1 kHz, stereo`. */
export function factWords(
  { sampleRateHz, channels, seconds }: { sampleRateHz?: number; channels?: number; seconds?: number },
  length: (seconds: number) => string,
): string {
  const words = [
    seconds === undefined ? "" : length(seconds),
    !sampleRateHz ? "" : `${Number((sampleRateHz / 1000).toFixed(2))} kHz`,
    !channels ? "" : channels === 1 ? "mono" : channels === 2 ? "stereo" : `${channels} channels`,
  ];
  return words.filter(Boolean).join(", ");
}
