import type { PcmFormat } from "../pcm-format.ts";
import { LoudnessMeter } from "./loudness.ts";
import type { Waveform } from "./waveform.ts";
import { WaveformMeter } from "./waveform.ts";

/** Samples that are worked on at a time: as doubles they stay in the processor's first cache. */
const samplesPerSlice = 4096;

/** From here on, as a share of full scale, a sample is at full scale, if its coding can go so far: 16 bits can. */
const maxClippingLevel = 32_767 / 32_768;

/** So many samples in a row at full scale with one sign are clipped; fewer are just loud. */
const shortestClippedRun = 3;

/** Up to here, as a share of full scale, it is silence: two steps of 16 bits, the noise of dither. */
const silenceLevel = 2 / 32_768;

/** What was measured on the sound itself. */
export interface SoundFacts {
  /** Samples of each channel. */
  readonly frames: number;
  readonly waveform: Waveform;
  /** EBU R 128 loudness in LUFS; null if shorter than 400 ms or nowhere louder than -70 LUFS. */
  readonly integratedLufs: number | null;
  /** The largest magnitude of any sample, 1 at full scale; floating-point sound may exceed it. */
  readonly samplePeak: number;
  /** The same in dBFS; null if every sample is zero. */
  readonly samplePeakDbfs: number | null;
  /** Samples, of any channel, in runs of three or more at full scale with one sign. */
  readonly clippedSamples: number;
  /** Whether no sample is louder than about -84 dBFS, two steps of 16 bits. */
  readonly silent: boolean;
}

/** Measures peaks, loudness, clipping and silence while PCM streams by; the result is the same for any chunking. */
export class SoundMeter {
  readonly #channels: 1 | 2;
  readonly #fullScale: number;
  readonly #clippingLevel: number;
  /** The slice's bytes at an aligned address, the same as numbers, and the same as doubles. */
  readonly #bytes: Uint8Array;
  readonly #pcm: Int16Array | Float32Array;
  readonly #samples = new Float64Array(samplesPerSlice);
  readonly #waveform: WaveformMeter;
  readonly #loudness: LoudnessMeter;
  /** For each channel the length of the run at full scale that ends here, negative at the negative end. */
  readonly #runs: Int32Array;
  #clippedSamples = 0;
  #frames = 0;
  #peak = 0;

  /** `largestSample` is the largest that the recording's coding can hold, 1 being full scale. */
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

  /** Takes the next sound: whole sample frames, at any address, without NaN. The buffer is not kept. */
  add(pcm: Buffer): void {
    for (let offset = 0; offset < pcm.length; offset += this.#bytes.length) {
      const slice = pcm.subarray(offset, offset + this.#bytes.length);
      const count = slice.length / this.#pcm.BYTES_PER_ELEMENT;
      this.#bytes.set(slice);
      this.#samples.set(count === samplesPerSlice ? this.#pcm : this.#pcm.subarray(0, count));
      this.#measure(count);
    }
  }

  /** The facts of all the sound added. To be called once, at the end. */
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
    // Of the bins that the slice falls into: at least its own, perhaps that of an earlier slice.
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
    // Below it nothing is clipped, and most sound is spared another loop.
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
