import type { ByteReader } from "./byte-reader.ts";

/** The first 16 bytes of a Sony Wave64 file: the GUID that stands for RIFF. */
const riffGuid = Buffer.from("726966662e91cf11a5d628db04c10000", "hex");
/** The end of a GUID whose first four bytes are the name of a chunk. */
const chunkTail = "f3acd3118cd100c04f8edb8a";

/** Chunk headers: a GUID, and the size of the chunk including this header. Chunks begin at multiples of 8 bytes. */
const headerBytes = 24;

/** Chunks before the sound that are longer than this are left out; they are no texts. */
const maxKeptBytes = 64 * 1024;
/** Maximum of such chunks together, which stay in memory until the sound begins; further ones are left out. */
const maxBytesBefore = 256 * 1024;
const maxChunksBefore = 1000;

/** Number of bytes that {@link isWave64} looks at. */
export const wave64MarkBytes = riffGuid.length;

/** Whether a Sony Wave64 file begins with these bytes, as far as they go. */
export function isWave64(start: Buffer): boolean {
  return start.length >= 4 && riffGuid.subarray(0, start.length).equals(start);
}

/** A place inside the sound. */
interface Wave64Sound {
  /** Size of the sound; 0 if it is unknown. */
  readonly dataBytes: number;
  /** The part of it that was not read yet; Infinity if the size is unknown. */
  leftBytes: number;
}

/** Where a rewriting is; only places inside the sound can be continued. */
export interface Wave64Progress {
  sound?: Wave64Sound;
}

/**
 * Rewrites a Sony Wave64 file (Sonic Foundry, "Wave 64 file format", 2003) as RF64, which the reader knows: the same
 * chunks with other headers. What cannot be understood is passed on as it is; the reader judges it.
 */
export async function* wave64AsRf64(
  bytes: ByteReader,
  progress: Wave64Progress = {},
): AsyncGenerator<Buffer, void, undefined> {
  try {
    if (progress.sound) yield* rewrittenFrom(bytes, progress, progress.sound);
    else yield* rewritten(bytes, progress);
  } finally {
    await bytes.close();
  }
}

async function* rewritten(bytes: ByteReader, progress: Wave64Progress): AsyncGenerator<Buffer, void, undefined> {
  await bytes.skip(headerBytes);
  const form = await bytes.read(16);
  if (form.length < 16) {
    yield riffHeader("RF64", 0xffff_ffff);
    return;
  }
  const before: Buffer[] = [];
  let keptBytes = 0;
  let data: Chunk | undefined;
  while (data === undefined && before.length < maxChunksBefore) {
    const chunk = await readHeader(bytes);
    if (chunk === undefined) break;
    if (chunk.id === "data") data = chunk;
    else {
      const kept = await readSmall(bytes, chunk, Math.min(maxKeptBytes, maxBytesBefore - keptBytes));
      keptBytes += kept.length;
      before.push(kept);
    }
  }
  const dataBytes = data?.bytes ?? 0;
  const ds64 = Buffer.alloc(36);
  ds64.write("ds64\x1c", "latin1");
  ds64.writeBigUInt64LE(BigInt(4 + ds64.length + keptBytes + 8) + BigInt(dataBytes), 8);
  ds64.writeBigUInt64LE(BigInt(dataBytes), 16);
  yield Buffer.concat([riffHeader("RF64", 0xffff_ffff), formOf(form), ds64, ...before]);
  if (data === undefined) return;
  yield riffHeader("data", 0xffff_ffff);
  progress.sound = { dataBytes, leftBytes: dataBytes || Infinity };
  yield* rewrittenFrom(bytes, progress, progress.sound);
}

/** Continues inside the sound. */
async function* rewrittenFrom(
  bytes: ByteReader,
  progress: Wave64Progress,
  sound: Wave64Sound,
): AsyncGenerator<Buffer, void, undefined> {
  const { dataBytes } = sound;
  while (sound.leftBytes > 0) {
    const piece = await bytes.take(sound.leftBytes);
    if (piece === undefined) break;
    sound.leftBytes -= piece.length;
    yield piece;
  }
  delete progress.sound;
  if (dataBytes === 0) return;
  await bytes.skip(padBytes(dataBytes));
  if (dataBytes % 2 === 1) yield Buffer.alloc(1);
  yield* chunksBehind(bytes);
}

/** The chunks after the sound, up to something that is no chunk. */
async function* chunksBehind(bytes: ByteReader): AsyncGenerator<Buffer, void, undefined> {
  for (let chunk = await readHeader(bytes); chunk !== undefined; chunk = await readHeader(bytes)) {
    if (chunk.bytes > 0xffff_fffe) break;
    yield riffHeader(chunk.id, chunk.bytes);
    yield* take(bytes, chunk.bytes);
    await bytes.skip(padBytes(chunk.bytes));
    if (chunk.bytes % 2 === 1) yield Buffer.alloc(1);
  }
  yield* take(bytes, Infinity);
}

interface Chunk {
  readonly id: string;
  /** Size of its body; 0 if it is unknown, as in files that were written to a pipe. */
  readonly bytes: number;
}

/** Reads the header of a chunk; undefined if there is none, and then it reads nothing. */
async function readHeader(bytes: ByteReader): Promise<Chunk | undefined> {
  const header = await bytes.peek(headerBytes);
  if (header.length < headerBytes) return undefined;
  const tail = header.toString("hex", 4, 16);
  const id = header.toString("latin1", 0, 4);
  const size = header.readBigUInt64LE(16);
  if (size < headerBytes && !(id === "data" && size === 0n)) return undefined;
  await bytes.skip(headerBytes);
  const body = size > BigInt(Number.MAX_SAFE_INTEGER) ? 0 : Math.max(0, Number(size) - headerBytes);
  return { id: tail === chunkTail && /^[\w ]{4}$/u.test(id) ? id : "JUNK", bytes: body };
}

/** Reads a chunk before the sound and rewrites it, without its body if that is longer than `maxBytes`. */
async function readSmall(bytes: ByteReader, { id, bytes: size }: Chunk, maxBytes: number): Promise<Buffer> {
  const body = size > maxBytes ? Buffer.alloc(0) : await bytes.read(size);
  if (size > maxBytes) await bytes.skip(size);
  await bytes.skip(padBytes(size));
  return Buffer.concat([riffHeader(id, body.length), body, Buffer.alloc(body.length % 2)]);
}

async function* take(bytes: ByteReader, count: number): AsyncGenerator<Buffer, void, undefined> {
  for (let left = count; left > 0;) {
    const piece = await bytes.take(left);
    if (piece === undefined) return;
    left -= piece.length;
    yield piece;
  }
}

function padBytes(size: number): number {
  return (8 - (size % 8)) % 8;
}

function formOf(guid: Buffer): Buffer {
  return guid.toString("latin1", 0, 4) === "wave" ? Buffer.from("WAVE") : guid.subarray(0, 4);
}

function riffHeader(id: string, size: number): Buffer {
  const header = Buffer.alloc(8);
  header.write(id, "latin1");
  header.writeUInt32LE(size, 4);
  return header;
}
