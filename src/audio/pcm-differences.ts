import type { PcmFormat } from "./pcm-format.ts";

/** Sound in a form of the same size that deflates to fewer bytes. */
export interface PcmDifferences {
  readonly format: PcmFormat;
  /** Whether floats were stored as integers: sound with 24 bits or fewer, as nearly all has. */
  readonly areIntegers: boolean;
  /** The lowest bytes of all differences, then the second lowest ones, and so on. */
  readonly planes: Buffer;
}

/** A step of 24 bits, relative to full scale. */
const stepsOf24Bits = 2 ** 23;

/**
 * The sound as the differences between samples of the same channel that follow each other. These are small, so their higher
 * bytes are alike. It begins with a whole sample, and nothing is lost.
 */
export function toDifferences(pcm: Buffer, format: PcmFormat): PcmDifferences {
  const is16Bit = format.sampleFormat === "s16le";
  const sampleBytes = is16Bit ? 2 : 4;
  const unusedBits = 32 - 8 * sampleBytes;
  const count = pcm.length / sampleBytes;
  const areIntegers = !is16Bit && isOf24Bits(pcm);
  const planes = Buffer.alloc(pcm.length);
  const last = [0, 0];
  for (let i = 0; i < count; i++) {
    const at = i * sampleBytes;
    const sample = is16Bit
      ? pcm.readInt16LE(at)
      : areIntegers
        ? pcm.readFloatLE(at) * stepsOf24Bits
        : pcm.readInt32LE(at);
    const channel = i % format.channels;
    const difference = ((sample - last[channel]!) << unusedBits) >> unusedBits;
    last[channel] = sample;
    // Signs in the lowest bit, so that small differences of both signs have equal higher bytes.
    let folded = (difference << 1) ^ (difference >> 31);
    for (let plane = i; plane < pcm.length; plane += count, folded >>>= 8) planes[plane] = folded;
  }
  return { format, areIntegers, planes };
}

/** The sound that {@link toDifferences} got. */
export function fromDifferences({ format, areIntegers, planes }: PcmDifferences): Buffer {
  const is16Bit = format.sampleFormat === "s16le";
  const sampleBytes = is16Bit ? 2 : 4;
  const unusedBits = 32 - 8 * sampleBytes;
  const count = planes.length / sampleBytes;
  const pcm = Buffer.alloc(planes.length);
  const last = [0, 0];
  for (let i = 0; i < count; i++) {
    let folded = 0;
    for (let plane = i, shift = 0; plane < planes.length; plane += count, shift += 8) folded |= planes[plane]! << shift;
    const channel = i % format.channels;
    const sample = ((last[channel]! + ((folded >>> 1) ^ -(folded & 1))) << unusedBits) >> unusedBits;
    last[channel] = sample;
    const at = i * sampleBytes;
    if (is16Bit) pcm.writeInt16LE(sample, at);
    else if (areIntegers) pcm.writeFloatLE(sample / stepsOf24Bits, at);
    else pcm.writeInt32LE(sample, at);
  }
  return pcm;
}

/** Whether these floats are whole steps of 24 bits. Minus zero is none. */
function isOf24Bits(floats: Buffer): boolean {
  for (let at = 0; at < floats.length; at += 4) {
    const steps = floats.readFloatLE(at) * stepsOf24Bits;
    if (!Object.is(steps, steps | 0)) return false;
  }
  return true;
}
