import type { WavFormat } from "./wav-format.ts";

/** Names of chunks in WAV files. They distinguish chunks from sound and pad bytes. */
const knownChunks = new Set(
  (
    "fmt ,data,fact,LIST,bext,id3 ,ID3 ,cue ,smpl,inst,acid,JUNK,junk,PAD ,FLLR,iXML,aXML,axml,chna,cart,PEAK,DISP," +
    "plst,_PMX,afsp,umid,minf,elm1,regn,levl,LGWV,ResU,strc,wavl,slnt,qlty,mext,link,ds64,CSET,bxml,sxml"
  ).split(","),
);

const containers = ["RIFF", "RIFX", "RF64", "BW64"] as const;

/** Four letters, a size and more letters. This combination does not occur in sound by chance. */
interface Mark {
  readonly ids: readonly string[];
  readonly form: Buffer;
}

const wavMarks: readonly Mark[] = [{ ids: containers, form: Buffer.from("WAVE") }];
const listMarks: readonly Mark[] = [
  ...wavMarks,
  { ids: ["LIST"], form: Buffer.from("INFO") },
  { ids: ["LIST"], form: Buffer.from("adtl") },
  { ids: ["id3 ", "ID3 "], form: Buffer.from("ID3") },
];

const markFirstBytes = new Set(listMarks.flatMap(({ ids }) => ids.map((id) => id.charCodeAt(0))));

/** Number of bytes that make up a mark. */
export const markBytes = 12;

export function isContainer(id: string): id is WavFormat["container"] {
  return (containers as readonly string[]).includes(id);
}

/** Whether a chunk with a known name begins here. */
export function isKnownChunk(bytes: Buffer, at = 0): boolean {
  return knownChunks.has(bytes.toString("latin1", at, at + 4));
}

/** Whether these four bytes consist of characters that a chunk name may have. */
export function isPrintableId(bytes: Buffer, at = 0): boolean {
  for (let i = at; i < at + 4; i++) {
    const byte = bytes[i];
    if (byte === undefined || byte < 0x20 || byte > 0x7e) return false;
  }
  return true;
}

/** Whether a WAV begins here. */
export function isWavStart(bytes: Buffer, at = 0): boolean {
  return bytes.toString("latin1", at + 8, at + 12) === "WAVE" && isContainer(bytes.toString("latin1", at, at + 4));
}

/**
 * Offset at which a WAV begins, or may begin depending on the bytes that follow; -1 if there is none.
 * @param withLists also finds the beginning of tags
 */
export function findMark(bytes: Buffer, withLists: boolean): number {
  const marks = withLists ? listMarks : wavMarks;
  let found = bytes.length;
  for (const { ids, form } of marks) {
    for (let at = bytes.indexOf(form, 8); at >= 0 && at - 8 < found; at = bytes.indexOf(form, at + 1)) {
      if (ids.includes(bytes.toString("latin1", at - 8, at - 4))) found = at - 8;
    }
  }
  for (let at = Math.max(0, bytes.length - markBytes + 1); at < found; at++) {
    if (markFirstBytes.has(bytes[at]!) && mayBeginMark(bytes.toString("latin1", at), marks)) return at;
  }
  return found < bytes.length ? found : -1;
}

/** Whether these bytes begin with one of the marks that {@link findMark} finds. */
export function isMark(bytes: Buffer, withLists: boolean): boolean {
  const id = bytes.toString("latin1", 0, 4);
  return (withLists ? listMarks : wavMarks).some(
    ({ ids, form }) => ids.includes(id) && bytes.subarray(8, 8 + form.length).equals(form),
  );
}

function mayBeginMark(text: string, marks: readonly Mark[]): boolean {
  return marks.some(
    ({ ids, form }) =>
      ids.some((id) => id.startsWith(text.slice(0, 4))) &&
      form.toString("latin1").startsWith(text.slice(8, 8 + form.length)),
  );
}

/**
 * Offset of the chunks at the end of a file whose sound has no size: the first place from which consecutive chunks
 * reach exactly the end. An ID3v1 or APE tag after them belongs to them.
 * @returns the length of `bytes` if there are none
 */
export function trailerStart(bytes: Buffer, bigEndian: boolean): number {
  const end = startOfOldTags(bytes);
  /**
   * For each offset, whether chunks reach from there to the end. It is filled from the end, so each offset is visited
   * once.
   */
  const reachesEnd = new Uint8Array(end + 1);
  reachesEnd[end] = 1;
  let first = end;
  for (let at = end - 8; at >= 0; at--) {
    if (!isPrintableId(bytes, at)) continue;
    const size = bigEndian ? bytes.readUInt32BE(at + 4) : bytes.readUInt32LE(at + 4);
    const next = at + 8 + size;
    if (next > end || (reachesEnd[next] === 0 && (size % 2 === 0 || reachesEnd[next + 1] !== 1))) continue;
    reachesEnd[at] = 1;
    if (isKnownChunk(bytes, at)) first = at;
  }
  return first;
}

/** Offset of ID3v1 and APE tags at the very end: ID3v1 in 128 bytes, APEv2 with its size in a footer. */
function startOfOldTags(bytes: Buffer): number {
  let end = bytes.length;
  if (end >= 128 && bytes.toString("latin1", end - 128, end - 125) === "TAG") end -= 128;
  if (end >= 32 && bytes.toString("latin1", end - 32, end - 24) === "APETAGEX") {
    const hasHeader = bytes.readUInt32LE(end - 12) >= 0x8000_0000;
    const tagBytes = bytes.readUInt32LE(end - 20) + (hasHeader ? 32 : 0);
    if (tagBytes >= 32 && tagBytes <= end) end -= tagBytes;
  }
  return end;
}
