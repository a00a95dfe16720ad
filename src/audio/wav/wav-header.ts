import { ServiceError } from "../../errors/errors.ts";
import type { ByteReader } from "./byte-reader.ts";
import { noSound, type Container } from "./wav-container.ts";
import { isBigEndian, parseFormat, type WavFormat } from "./wav-format.ts";

/** The contents of one WAV header. A file may contain several WAVs, each with its own header. */
export interface WavHeader {
  readonly container: WavFormat["container"];
  readonly bigEndian: boolean;
  /** Its position in the source. */
  readonly start: number;
  /** Number of bytes after the first eight, as the header states it. */
  bytes: number;
  /** Size of the first sound according to the `ds64` chunk; 0 if it is unknown or there is no such chunk. */
  ds64DataBytes: number;
  /** Undefined if there is none yet, or if the format of a later WAV cannot be read. */
  format: WavFormat | undefined;
  /** Sample frames according to the `fact` or `ds64` chunk; 0 if not stated. */
  factFrames: number;
}

/** The header that begins at `start`, as far as its first 12 bytes tell. */
export function headerOf({ id, bytes }: Container, start: number): WavHeader {
  return {
    container: id,
    bigEndian: isBigEndian(id),
    start,
    bytes,
    ds64DataBytes: 0,
    format: undefined,
    factFrames: 0,
  };
}

/** Whether a `ds64` chunk with the true sizes follows. */
export function is64({ container }: WavHeader): boolean {
  return container === "RF64" || container === "BW64";
}

/**
 * Reads the true sizes at the start of RF64 and BW64, whose 32-bit fields are too small for them.
 * @param hasSound whether the recording has sound already: then sizes that are missing are no reason to refuse it
 * @returns whether a pad byte should follow
 */
export async function readDs64(bytes: ByteReader, header: WavHeader, hasSound: boolean): Promise<boolean> {
  const start = await bytes.peek(32);
  const size = start.length < 32 ? 0 : start.readUInt32LE(4);
  if (start.length < 32 || start.toString("latin1", 0, 4) !== "ds64" || size < 24) {
    if (hasSound) return false;
    if (start.length < 8) throw noSound();
    throw new ServiceError("UNSUPPORTED_MEDIA", `The ${header.container} file does not begin with its sizes (ds64).`);
  }
  header.bytes = Number(start.readBigUInt64LE(8));
  header.ds64DataBytes = Number(start.readBigUInt64LE(16));
  header.factFrames = Number(start.readBigUInt64LE(24));
  await bytes.skip(8 + size);
  return size % 2 === 1;
}

/** Reads a `fmt ` chunk of `size` bytes. After the first sound, one that cannot be read leaves the format undefined. */
export async function readFormat(bytes: ByteReader, header: WavHeader, size: number, hasSound: boolean): Promise<void> {
  const wanted = Math.min(size, 40);
  const fmt = await bytes.read(wanted);
  if (fmt.length < wanted && !hasSound) throw noSound();
  try {
    header.format = parseFormat(fmt, header.container);
  } catch (error) {
    if (!hasSound || !(error instanceof ServiceError)) throw error;
  }
  await bytes.skip(size - wanted);
}

/** How close placeholder sizes are to a round number, in bytes. */
const roundness = 4096;

/**
 * Whether a size is a placeholder, left by a program that could not go back to the header: the largest value of a field
 * or variable, or a round number of many megabytes.
 */
export function isPlaceholder(dataBytes: number): boolean {
  if (dataBytes < 0x0400_0000) return false;
  const isNear = (unit: number, by: number): boolean => Math.abs(dataBytes - Math.round(dataBytes / unit) * unit) <= by;
  return (
    isNear(2 ** 28, roundness) || isNear(2 ** 31, 16 * roundness) || isNear(10_000_000, 64) || dataBytes >= 2 ** 53
  );
}
