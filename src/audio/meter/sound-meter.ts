import type { PcmFormat } from "../pcm-format.ts";
import { ClippingCounter, type ClippingState } from "./clipping.ts";
import { LoudnessMeter, type LoudnessState } from "./loudness.ts";
import { TruePeakMeter, type TruePeakState } from "./true-peak.ts";
import { detailOf, overviewOf, WaveformMeter, type Waveform, type WaveformState } from "./waveform.ts";

/** Number of samples that are processed at a time. As doubles, they fit into the first-level cache. */
const samplesPerSlice = 4096;

/** Steps of the source's encoding that may be noise or dither in silence. */
const stepsInSilence = 2;

/** What the meter has to know about the file. By default, it has 16 bits. */
interface SourceLevels {
  /** The largest sample that can occur, relative to full scale (1). */
  readonly largestSample?: number;
  /** Bits of the samples. Dither is louder if they are fewer. */
  readonly bitsPerSample?: number;
}

/** Measurements of the sound. */
export interface SoundFacts {
  /** Samples of each channel. */
  readonly frames: number;
  readonly waveform: Waveform;
  /** The same with more and shorter bins; undefined if the sound is too short to have more of a useful length. */
  readonly detailedWaveform: Waveform | undefined;
  /** EBU R 128 loudness in LUFS; null if the sound is shorter than 400 ms or never louder than -70 LUFS. */
  readonly integratedLufs: number | null;
  /** Largest magnitude of any sample, relative to full scale (1). Floating-point sound may exceed 1. */
  readonly samplePeak: number;
  /** The same in dBFS; null if every sample is zero. */
  readonly samplePeakDbfs: number | null;
  /** Largest magnitude between the samples (ITU-R BS.1770-4 annex 2), in dB; null if every sample is zero. */
  readonly truePeakDbtp: number | null;
  /** Loudness range (EBU Tech 3342), in LU; null if the sound is shorter than 3 s or never louder than -70 LUFS. */
  readonly loudnessRangeLu: number | null;
  /** Samples of all channels in runs of three or more at full scale with one sign. */
  readonly clippedSamples: number;
  /** Whether no sample is louder than two steps of 16 bits, or of 24 bits if the source has more than 16. */
  readonly silent: boolean;
}

/** What a {@link SoundMeter} has measured so far. */
export interface SoundMeterState {
  readonly frames: number;
  readonly peak: number;
  readonly waveform: WaveformState;
  readonly loudness: LoudnessState;
  readonly truePeak: TruePeakState;
  readonly clipping: ClippingState;
}

/**
 * Measures peaks, loudness, loudness range, clipping and silence of streamed PCM. The result does not depend on how the
 * PCM is split.
 */
export class SoundMeter {
  readonly #channels: 1 | 2;
  readonly #fullScale: number;
  readonly #silenceLevel: number;
  /** The bytes of the slice at an aligned address, as numbers, and as doubles. */
  readonly #bytes: Uint8Array;
  readonly #pcm: Int16Array | Float32Array;
  readonly #samples = new Float64Array(samplesPerSlice);
  readonly #waveform: WaveformMeter;
  readonly #loudness: LoudnessMeter;
  readonly #truePeak: TruePeakMeter;
  readonly #clipping: ClippingCounter;
  #frames = 0;
  #peak = 0;

  constructor(format: PcmFormat, { largestSample = 1, bitsPerSample = 16 }: SourceLevels = {}) {
    this.#channels = format.channels;
    this.#fullScale = format.sampleFormat === "s16le" ? 32_768 : 1;
    this.#silenceLevel = stepsInSilence / 2 ** (bitsPerSample > 16 ? 23 : 15);
    this.#pcm = format.sampleFormat === "s16le" ? new Int16Array(samplesPerSlice) : new Float32Array(samplesPerSlice);
    this.#bytes = new Uint8Array(this.#pcm.buffer);
    this.#waveform = new WaveformMeter(format.sampleRateHz, this.#fullScale);
    this.#loudness = new LoudnessMeter(format.sampleRateHz, format.channels, this.#fullScale);
    this.#truePeak = new TruePeakMeter(format.channels, samplesPerSlice / format.channels);
    this.#clipping = new ClippingCounter(format.channels, this.#fullScale, largestSample);
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
    const waveform = this.#waveform.finish();
    return {
      frames: this.#frames,
      waveform: overviewOf(waveform),
      detailedWaveform: detailOf(waveform),
      integratedLufs: this.#loudness.integratedLufs(),
      samplePeak,
      samplePeakDbfs: samplePeak === 0 ? null : 20 * Math.log10(samplePeak),
      truePeakDbtp: samplePeak === 0 ? null : 20 * Math.log10(this.#truePeak.finish() / this.#fullScale),
      loudnessRangeLu: this.#loudness.loudnessRangeLu(),
      clippedSamples: this.#clipping.clippedSamples,
      silent: samplePeak <= this.#silenceLevel,
    };
  }

  /** What it takes to go on with another meter. */
  save(): SoundMeterState {
    return {
      frames: this.#frames,
      peak: this.#peak,
      waveform: this.#waveform.save(),
      loudness: this.#loudness.save(),
      truePeak: this.#truePeak.save(),
      clipping: this.#clipping.save(),
    };
  }

  /** Goes on where another meter of the same sound was saved. */
  restore({ frames, peak, waveform, loudness, truePeak, clipping }: SoundMeterState): void {
    this.#frames = frames;
    this.#peak = peak;
    this.#waveform.restore(waveform);
    this.#loudness.restore(loudness);
    this.#truePeak.restore(truePeak);
    this.#clipping.restore(clipping);
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
    this.#truePeak.add(this.#samples, count, peak);
    this.#clipping.add(this.#samples, count, peak);
    this.#frames += count / this.#channels;
  }
}
