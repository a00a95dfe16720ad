import { ServiceError } from "../../errors/errors.ts";

/** Maximum number of bins of a waveform, and of peaks that can be requested. */
export const maxWaveformBins = 2048;

/** The same for a waveform with details, to zoom into, whose bins have at least so many sample frames. */
export const maxDetailBins = 32_768;
export const leastDetailFrames = 256;

/** Full scale of the stored 8-bit values. It is symmetric, so that both signs can reach it. */
const storedFullScale = 127;

/** Header of the audiowaveform data format, version 2: six 32-bit little-endian numbers. */
const headerBytes = 24;
const formatVersion = 2;
const eightBitFlag = 1;

/** The outline of a recording, as players draw it. */
export interface Waveform {
  readonly sampleRateHz: number;
  /** Sample frames per bin, a power of two. The last bin may have fewer. */
  readonly framesPerBin: number;
  /** Minimum and maximum of each bin over all channels, from -127 to 127 (full scale). */
  readonly extremes: Int8Array;
}

/** The JSON form of the audiowaveform data format, version 2, which wavesurfer.js and peaks.js read. */
export interface AudiowaveformJson {
  readonly version: 2;
  readonly channels: 1;
  readonly sample_rate: number;
  readonly samples_per_pixel: number;
  readonly bits: 8;
  readonly length: number;
  readonly data: readonly number[];
}

/** What a {@link WaveformMeter} has collected so far. */
export interface WaveformState {
  readonly bins: number;
  readonly framesPerBin: number;
  readonly framesInBin: number;
  readonly openBin: Float64Array;
  readonly extremes: Int8Array;
}

/**
 * Collects minima and maxima of streamed samples in constant memory, without knowing the length in advance. Bins begin
 * with one sample frame; when all are used, neighbours are merged and bins become twice as long. As long as bins are
 * shorter than {@link leastDetailFrames}, there are only {@link maxWaveformBins}: an overview needs no more. The caller
 * updates {@link openBin} with at most {@link framesLeftInBin} frames, then calls `advance`.
 */
export class WaveformMeter {
  /** Minimum and maximum of the current bin, over all channels. */
  readonly openBin = Float64Array.of(Infinity, -Infinity);
  readonly #sampleRateHz: number;
  readonly #scale: number;
  readonly #extremes = new Int8Array(2 * maxDetailBins);
  #bins = 0;
  #framesPerBin = 1;
  #framesInBin = 0;

  /** Creates a meter for samples whose full scale (0 dBFS) is `fullScale`. Larger samples are drawn at full scale. */
  constructor(sampleRateHz: number, fullScale: number) {
    this.#sampleRateHz = sampleRateHz;
    this.#scale = storedFullScale / fullScale;
  }

  /** Number of sample frames for which the open bin has room, at least one. Call it only if a frame follows. */
  framesLeftInBin(): number {
    const maxBins = this.#framesPerBin < leastDetailFrames ? maxWaveformBins : maxDetailBins;
    // Merge only now, so that a recording that just fits keeps its bins.
    if (this.#bins === maxBins) this.#mergeNeighbours();
    return this.#framesPerBin - this.#framesInBin;
  }

  /** Adds to the number of frames in the open bin, and closes the bin when it is full. */
  advance(frames: number): void {
    this.#framesInBin += frames;
    if (this.#framesInBin === this.#framesPerBin) this.#closeBin();
  }

  /** Returns the waveform of everything added. Call it once, at the end. */
  finish(): Waveform {
    if (this.#framesInBin > 0) this.#closeBin();
    return {
      sampleRateHz: this.#sampleRateHz,
      framesPerBin: this.#framesPerBin,
      extremes: this.#extremes.slice(0, 2 * this.#bins),
    };
  }

  /** What it takes to go on with another meter. */
  save(): WaveformState {
    const extremes = this.#extremes.subarray(0, 2 * this.#bins);
    const { openBin } = this;
    return { bins: this.#bins, framesPerBin: this.#framesPerBin, framesInBin: this.#framesInBin, openBin, extremes };
  }

  /** Goes on where another meter of the same sound was saved. */
  restore({ bins, framesPerBin, framesInBin, openBin, extremes }: WaveformState): void {
    this.#bins = bins;
    this.#framesPerBin = framesPerBin;
    this.#framesInBin = framesInBin;
    this.openBin.set(openBin);
    this.#extremes.set(extremes);
  }

  #closeBin(): void {
    this.#extremes[2 * this.#bins] = toStored(this.openBin[0]! * this.#scale);
    this.#extremes[2 * this.#bins + 1] = toStored(this.openBin[1]! * this.#scale);
    this.#bins++;
    this.#framesInBin = 0;
    this.openBin[0] = Infinity;
    this.openBin[1] = -Infinity;
  }

  #mergeNeighbours(): void {
    this.#bins = mergeNeighbours(this.#extremes, this.#bins);
    this.#framesPerBin *= 2;
  }
}

/**
 * Merges bins with their neighbours in place, and returns how many there are then. A last one without a neighbour
 * stays.
 */
function mergeNeighbours(extremes: Int8Array, bins: number): number {
  const merged = Math.ceil(bins / 2);
  for (let bin = 0; bin < merged; bin++) {
    const [first, second] = [4 * bin, 2 * Math.min(2 * bin + 1, bins - 1)];
    extremes[2 * bin] = Math.min(extremes[first]!, extremes[second]!);
    extremes[2 * bin + 1] = Math.max(extremes[first + 1]!, extremes[second + 1]!);
  }
  return merged;
}

/** The waveform with bins of twice the length, for as long as it `isTooFine`. */
function coarser(waveform: Waveform, isTooFine: (bins: number, framesPerBin: number) => boolean): Waveform {
  const extremes = waveform.extremes.slice();
  let { framesPerBin } = waveform;
  let bins = extremes.length / 2;
  for (; bins > 1 && isTooFine(bins, framesPerBin); framesPerBin *= 2) bins = mergeNeighbours(extremes, bins);
  return { ...waveform, framesPerBin, extremes: extremes.subarray(0, 2 * bins) };
}

/** The waveform with at most {@link maxWaveformBins} bins. */
export function overviewOf(waveform: Waveform): Waveform {
  return coarser(waveform, (bins) => bins > maxWaveformBins);
}

/** The waveform with bins of at least {@link leastDetailFrames}; undefined if its overview is as fine as that. */
export function detailOf(waveform: Waveform): Waveform | undefined {
  return waveform.extremes.length > 2 * maxWaveformBins ? waveform : undefined;
}

/** The waveform with the longest bins of at most `samplesPerPixel` frames, or as it is if they are longer. */
export function zoomed(waveform: Waveform, samplesPerPixel: number): Waveform {
  return coarser(waveform, (_, framesPerBin) => 2 * framesPerBin <= samplesPerPixel);
}

/** The waveform in the binary audiowaveform data format, version 2: a header, and two bytes for each bin. */
export function encodeWaveform(waveform: Waveform): Buffer {
  const { sampleRateHz, framesPerBin, extremes } = waveform;
  const header = Int32Array.of(formatVersion, eightBitFlag, sampleRateHz, framesPerBin, extremes.length / 2, 1);
  const bytes = Buffer.alloc(headerBytes + extremes.length);
  for (const [i, value] of header.entries()) bytes.writeInt32LE(value, 4 * i);
  bytes.set(new Uint8Array(extremes.buffer, extremes.byteOffset, extremes.length), headerBytes);
  return bytes;
}

/**
 * Decodes the output of {@link encodeWaveform}.
 * @throws {Error} if the bytes are not a stored waveform.
 */
export function decodeWaveform(bytes: Uint8Array): Waveform {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (
    bytes.length < headerBytes ||
    buffer.readInt32LE(0) !== formatVersion ||
    buffer.readInt32LE(4) !== eightBitFlag ||
    buffer.readInt32LE(16) * 2 !== bytes.length - headerBytes ||
    buffer.readInt32LE(20) !== 1
  ) {
    throw new Error("These bytes are not a stored waveform.");
  }
  return {
    sampleRateHz: buffer.readInt32LE(8),
    framesPerBin: buffer.readInt32LE(12),
    extremes: Int8Array.from(new Int8Array(bytes.buffer, bytes.byteOffset + headerBytes, bytes.length - headerBytes)),
  };
}

/** @throws {ServiceError} BAD_USER_INPUT if `count` is not a whole number from 1 to {@link maxWaveformBins}. */
export function requirePeakCount(count: number): void {
  if (Number.isInteger(count) && count >= 1 && count <= maxWaveformBins) return;
  throw new ServiceError("BAD_USER_INPUT", `count must be a whole number from 1 to ${maxWaveformBins}.`, {
    argument: "count",
    maxCount: maxWaveformBins,
  });
}

/**
 * The waveform as `count` magnitudes from 0 to 1, each the largest in one of `count` equal parts of the recording.
 * @throws {ServiceError} as {@link requirePeakCount} does
 */
export function waveformPeaks({ extremes }: Waveform, count: number): number[] {
  requirePeakCount(count);
  const bins = extremes.length / 2;
  return Array.from({ length: count }, (_, index) => {
    const first = Math.floor((index * bins) / count);
    const end = Math.ceil(((index + 1) * bins) / count);
    const peak = extremes.subarray(2 * first, 2 * end).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    return Math.round((1000 * peak) / storedFullScale) / 1000;
  });
}

/**
 * The waveform in the JSON format that wavesurfer.js and peaks.js read, with one channel that outlines all channels.
 */
export function audiowaveformJson({ sampleRateHz, framesPerBin, extremes }: Waveform): AudiowaveformJson {
  return {
    version: formatVersion,
    channels: 1,
    sample_rate: sampleRateHz,
    samples_per_pixel: framesPerBin,
    bits: 8,
    length: extremes.length / 2,
    data: Array.from(extremes),
  };
}

function toStored(value: number): number {
  return Math.max(-storedFullScale, Math.min(storedFullScale, Math.round(value)));
}
