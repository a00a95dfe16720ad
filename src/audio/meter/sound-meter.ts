import type { PcmFormat } from "../pcm-format.ts";
import { LoudnessMeter } from "./loudness.ts";
import type { Waveform } from "./waveform.ts";
import { WaveformMeter } from "./waveform.ts";

/** Number of samples that are processed at a time. As doubles, they fit into the first-level cache. */
const samplesPerSlice = 4096;

/**
 * Samples at or above this fraction of full scale count as clipped, if the file's encoding can reach it, as 16 bits
 * can.
 */
const maxClippingLevel = 32_767 / 32_768;

/** This many consecutive samples at full scale with one sign are clipped; fewer are only loud. */
const shortestClippedRun = 3;

/** Samples up to this fraction of full scale are silence: two steps of 16 bits, the noise of dither. */
const silenceLevel = 2 / 32_768;

/** Measurements of the sound. */
export interface SoundFacts {
  /** Samples of each channel. */
  readonly frames: number;
  readonly waveform: Waveform;
  /** EBU R 128 loudness in LUFS; null if the sound is shorter than 400 ms or never louder than -70 LUFS. */
  readonly integratedLufs: number | null;
  /** Largest magnitude of any sample, relative to full scale (1). Floating-point sound may exceed 1. */
  readonly samplePeak: number;
  /** The same in dBFS; null if every sample is zero. */
  readonly samplePeakDbfs: number | null;
  /** Samples of all channels in runs of three or more at full scale with one sign. */
  readonly clippedSamples: number;
  /** Whether no sample is louder than about -84 dBFS, two steps of 16 bits. */
  readonly silent: boolean;
}

/**
 * Measures peaks, loudness, clipping and silence of streamed PCM. The result does not depend on how the PCM is split.
 */
export class SoundMeter {
  readonly #channels: 1 | 2;
  readonly #fullScale: number;
  readonly #clippingLevel: number;
  /** The bytes of the slice at an aligned address, as numbers, and as doubles. */
  readonly #bytes: Uint8Array;
  readonly #pcm: Int16Array | Float32Array;
  readonly #samples = new Float64Array(samplesPerSlice);
  readonly #waveform: WaveformMeter;
  readonly #loudness: LoudnessMeter;
  /** For each channel, the length of the current run at full scale; negative for a run at negative full scale. */
  readonly #runs: Int32Array;
  #clippedSamples = 0;
  #frames = 0;
  #peak = 0;

  /** `largestSample` is the largest sample that the file's encoding can represent, relative to full scale (1). */
  constructor(format: PcmFormat, largestSample = 1) {
    this.#channels = format.channels;
    this.#fullScale = format.sampleFormat === "s16le" ? 32_768 : 1;
    this.#clippingLevel = Math.min(largestSample, maxClippingLevel) * this.#fullScale;
    this.#pcm = format.sampleFormat === "s16le" ? new Int16Array(samplesPerSlice) : new Float32Array(samplesPerSlice);
    this.#bytes = new Uint8Array(this.#pcm.buffer);
    this.#waveform = new WaveformMeter(format.sampleRateHz, this.#fullScale);
    this.#loudness = new LoudnessMeter(format.sampleRateHz, format.channels, this.#fullScale);
    this.#runs = new Int32Array(format.channels);
  }

  /** Adds sound in whole sample frames, at any address, without NaN. The buffer is not kept. */
  add(pcm: Buffer): void {
    for (let offset = 0; offset < pcm.length; offset += this.#bytes.length) {
      const slice = pcm.subarray(offset, offset + this.#bytes.length);
      const count = slice.length / this.#pcm.BYTES_PER_ELEMENT;
      this.#bytes.set(slice);
      this.#samples.set(count === samplesPerSlice ? this.#pcm : this.#pcm.subarray(0, count));
      this.#measure(count);
    }
  }

  /** Returns the measurements of all sound added. Call it once, at the end. */
  finish(): SoundFacts {
    const samplePeak = this.#peak / this.#fullScale;
    return {
      frames: this.#frames,
      waveform: this.#waveform.finish(),
      integratedLufs: this.#loudness.integratedLufs(),
      samplePeak,
      samplePeakDbfs: samplePeak === 0 ? null : 20 * Math.log10(samplePeak),
      clippedSamples: this.#clippedSamples,
      silent: samplePeak <= silenceLevel,
    };
  }

  #measure(count: number): void {
    const bin = this.#waveform.openBin;
    // Peak of the bins that the slice falls into. It includes the slice's own peak, and may include that of an earlier
    // slice.
    let peak = 0;
    let from = 0;
    while (from < count) {
      const to = Math.min(count, from + this.#waveform.framesLeftInBin() * this.#channels);
      this.#loudness.add(this.#samples, from, to, bin);
      peak = Math.max(peak, bin[1]!, -bin[0]!);
      this.#waveform.advance((to - from) / this.#channels);
      from = to;
    }
    this.#peak = Math.max(this.#peak, peak);
    // Below this level nothing is clipped, so most sound needs no second loop.
    if (peak >= this.#clippingLevel) this.#countClipped(count);
    else this.#runs.fill(0);
    this.#frames += count / this.#channels;
  }

  #countClipped(count: number): void {
    const samples = this.#samples;
    const stride = this.#channels;
    const level = this.#clippingLevel;
    let clipped = 0;
    for (let channel = 0; channel < stride; channel++) {
      let run = this.#runs[channel]!;
      for (let i = channel; i < count; i += stride) {
        const sample = samples[i]!;
        if (Math.abs(sample) < level) {
          run = 0;
          continue;
        }
        if (sample > 0) run = run > 0 ? run + 1 : 1;
        else run = run < 0 ? run - 1 : -1;
        const length = Math.abs(run);
        if (length >= shortestClippedRun) clipped += length === shortestClippedRun ? shortestClippedRun : 1;
      }
      this.#runs[channel] = run;
    }
    this.#clippedSamples += clipped;
  }
}
