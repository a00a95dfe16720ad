import { lameDelaySamples, mpegVersionOf, samplesPerFrameOf } from "../mp3/mp3-frame.ts";
import type { Joint } from "./joint.ts";
import { bytesPerPcmFrame, type PcmFormat } from "../pcm-format.ts";

/** Minimum of samples that LAME adds after the last one, for the decoder's delay. */
const leastPaddingSamples = 576;

/**
 * What encoders get around a joint beyond their own segments, in samples of the MP3. The lead-in and the lead-out make
 * the frames as in one pass; LAME looks less than two frames of MPEG-1 ahead. Both encoders make the frames in between,
 * so that there is one at which the bit reservoirs fit together. Silence before the lead-in empties the reservoir of an
 * encoder that has encoded something else: the beginning of the sound takes it all.
 */
const silenceSamples = 8 * 1152;
const leadInSamples = 6 * 1152;
const overlapSamples = 12 * 1152;
const leadOutSamples = 2 * 1152;
/** An encoder that has encoded nothing gets noise before the lead-in, which empties the reservoir whatever the sound is. */
const noiseSamples = 8 * 1152;

/**
 * Frames after which the padding that keeps the bit rate constant repeats, at 44.1 kHz and its fractions; elsewhere 1.
 */
const paddingPeriod = 49;

/** Number of frames that LAME makes of so many samples when it is flushed. */
export function mp3FramesFor(samples: number, samplesPerFrame: 1152 | 576): number {
  return Math.ceil((lameDelaySamples + samples + leastPaddingSamples) / samplesPerFrame);
}

/** Maps MP3 frames to the PCM that they encode, also if the encoder resamples. Frames are numbered from 0. */
export class FrameGrid {
  readonly samplesPerFrame: 1152 | 576;
  readonly silentFrames: number;
  readonly noisyFrames: number;
  readonly leadInFrames: number;
  readonly leadOutFrames: number;
  readonly overlapFrames: number;
  /**
   * Number of frames after which an encoder is at the same point again: of the padding, and between two samples of the
   * source. At most 1225, which is half a minute at 44.1 kHz.
   */
  readonly period: number;
  /**
   * Whether each frame begins with a sample of the source. If ffmpeg resamples, it is then at the same point at each.
   */
  readonly isWhole: boolean;
  /** Number of frames around a joint whose sound both encoders get. */
  readonly sharedFrames: number;
  /** PCM to keep for a joint: that of these frames, and of parts of frames. */
  readonly jointBytes: number;
  readonly #source: PcmFormat;
  readonly #mp3RateHz: number;

  constructor(source: PcmFormat, mp3RateHz: number) {
    this.#source = source;
    this.#mp3RateHz = mp3RateHz;
    this.samplesPerFrame = samplesPerFrameOf(mpegVersionOf(mp3RateHz) ?? 1);
    this.silentFrames = silenceSamples / this.samplesPerFrame;
    this.noisyFrames = noiseSamples / this.samplesPerFrame;
    this.leadInFrames = leadInSamples / this.samplesPerFrame;
    this.leadOutFrames = leadOutSamples / this.samplesPerFrame;
    this.overlapFrames = overlapSamples / this.samplesPerFrame;
    const ofPadding = mp3RateHz % 11_025 === 0 ? paddingPeriod : 1;
    const ofSamples = mp3RateHz / greatestCommonDivisor(this.samplesPerFrame * source.sampleRateHz, mp3RateHz);
    this.isWhole = ofSamples === 1;
    this.period = (ofPadding * ofSamples) / greatestCommonDivisor(ofPadding, ofSamples);
    this.sharedFrames = this.leadInFrames + this.overlapFrames + this.leadOutFrames;
    this.jointBytes = this.startOf(this.sharedFrames + 2);
  }

  /** Offset of a frame in the PCM, in bytes, rounded down to a whole sample. */
  startOf(frame: number): number {
    const samples = Math.floor((frame * this.samplesPerFrame * this.#source.sampleRateHz) / this.#mp3RateHz);
    return samples * bytesPerPcmFrame(this.#source);
  }

  /** Number of frames that lie wholly in so much PCM. */
  framesIn(bytes: number): number {
    const samples = Math.floor(bytes / bytesPerPcmFrame(this.#source));
    return Math.floor((samples * this.#mp3RateHz) / (this.samplesPerFrame * this.#source.sampleRateHz));
  }

  /** Number of frames for all of so much PCM, flushed. */
  allFramesOf(bytes: number): number {
    const samples = bytes / bytesPerPcmFrame(this.#source);
    return mp3FramesFor(Math.round((samples * this.#mp3RateHz) / this.#source.sampleRateHz), this.samplesPerFrame);
  }

  /** The joint at the end of so much PCM: its last frame is as in one pass, whatever follows. */
  jointIn(bytes: number): Joint {
    const last = Math.max(0, this.framesIn(bytes) - this.leadOutFrames);
    return { first: Math.max(0, last - this.overlapFrames), last };
  }

  /**
   * Where to change to a new encoder in so much PCM, so that both encode about the same amount; undefined if that is so little that
   * the lead-in would not be worth it.
   */
  middleOf(bytes: number): number | undefined {
    const middle = (this.framesIn(bytes) + this.sharedFrames) / 2;
    const leadIn = Math.round((middle - this.sharedFrames) / this.period) * this.period;
    const at = this.startOf(leadIn + this.sharedFrames);
    return leadIn > 0 && bytes - at >= this.startOf(2 * this.sharedFrames) ? at : undefined;
  }

  /** The last frame, up to this one, where a new encoder is at the same point as one that encoded everything before. */
  beginningBefore(frame: number): number {
    return Math.max(0, Math.floor(frame / this.period) * this.period);
  }
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
