import type { WavFormat } from "./wav-format.ts";

/** Gain of one channel in the left and in the right output. */
type Gains = readonly [left: number, right: number];

const half = Math.SQRT1_2;
const nowhere: Gains = [0, 0];
const middle: Gains = [half, half];

/**
 * Speakers by their bit in the channel mask (WAVEFORMATEXTENSIBLE): centre and surround at -3 dB (ITU-R BS.775),
 * without the low-frequency channel.
 */
const speakers: readonly Gains[] = [
  [1, 0], // front left
  [0, 1], // front right
  middle, // front centre
  nowhere, // low frequency
  [half, 0], // back left
  [0, half], // back right
  [1, 0], // front left of centre
  [0, 1], // front right of centre
  [0.5, 0.5], // back centre
  [half, 0], // side left
  [0, half], // side right
  [0.5, 0.5], // top centre
  [half, 0], // top front left
  [0.5, 0.5], // top front centre
  [0, half], // top front right
  [half, 0], // top back left
  [0.5, 0.5], // top back centre
  [0, half], // top back right
];

/** Speaker masks of files that state none, by number of channels from 3 to 8: 3.0, quad, 5.0, 5.1, 6.1, 7.1. */
const usualMasks: readonly number[] = [0x07, 0x33, 0x37, 0x3f, 0x70f, 0x63f];

/**
 * Ambisonic B-format, W X Y Z (Dobson, "The AMB Ambisonic File Format"): as two cardioid microphones that point left
 * and right. W is at -3 dB in the file. Stereo uses neither height nor higher orders.
 */
const bFormat: readonly Gains[] = [middle, nowhere, [0.5, -0.5]];

/** Maximum attenuation of a channel, whatever the number of channels: 12 dB. */
const mostAttenuation = 4;

/** Peak level of the limiter, just below full scale, so that limited sound does not count as clipped. */
const limiterPeak = 0.98;
const limiterReleaseSeconds = 0.5;

/**
 * Creates a mixer from more than two interleaved channels to stereo floats (full scale 1). Full scale on every channel
 * remains full scale. If that would attenuate each channel by more than 12 dB, a limiter limits the sum instead.
 */
export function stereoMixOf(format: WavFormat): (samples: Int16Array | Float32Array) => Float32Array<ArrayBuffer> {
  const { channels, sampleRateHz } = format;
  const gains = gainsOf(format);
  const loudest = loudestSum(gains);
  const attenuation = Math.min(loudest, mostAttenuation);
  const left = Float64Array.from(gains, ([gain]) => gain / attenuation);
  const right = Float64Array.from(gains, ([, gain]) => gain / attenuation);
  const limit = loudest > attenuation ? limiterOf(sampleRateHz) : undefined;
  return (samples) => {
    const fullScale = samples instanceof Int16Array ? 1 / 32_768 : 1;
    const stereo = new Float32Array((samples.length / channels) * 2);
    for (let out = 0, at = 0; out < stereo.length; out += 2) {
      let l = 0;
      let r = 0;
      for (let channel = 0; channel < channels; channel++) {
        const sample = samples[at++]!;
        l += sample * left[channel]!;
        r += sample * right[channel]!;
      }
      stereo[out] = l * fullScale;
      stereo[out + 1] = r * fullScale;
    }
    limit?.(stereo);
    return stereo;
  };
}

/** By how many dB the mix of a file attenuates each of its channels, so that their sum fits; 0 for mono and stereo. */
export function mixAttenuationDb(format: WavFormat): number {
  return format.channels <= 2 ? 0 : 20 * Math.log10(Math.min(loudestSum(gainsOf(format)), mostAttenuation));
}

/** The level of the mix if every channel is at full scale with the sign that adds up; at least 1. */
function loudestSum(gains: readonly Gains[]): number {
  return Math.max(...[0, 1].map((side) => gains.reduce((sum, gain) => sum + Math.abs(gain[side]!), 0)), 1);
}

/** Gains of each channel. A channel is left out only if the file states which one it is. */
function gainsOf({ channels, channelMask, isAmbisonic }: WavFormat): readonly Gains[] {
  if (isAmbisonic) return Array.from({ length: channels }, (_, channel) => bFormat[channel] ?? nowhere);
  const stated = speakersOf(channelMask);
  // If a mask has more speakers than the file has channels, it cannot be right about all of them.
  const believed = stated.length > channels ? heard(stated.slice(0, channels)) : stated;
  const placed = Array.from({ length: channels }, (_, channel) => believed[channel] ?? middle);
  const namesSpeakers = channelMask % 2 ** speakers.length !== 0;
  const hasBothSides = [0, 1].every((side) => placed.some((gains) => gains[side] !== 0));
  return namesSpeakers && hasBothSides ? placed : usualGains(channels);
}

/**
 * Gains for channels without stated positions: microphones, tracks of a mixing desk, or a surround mix of an old
 * program. Up to eight channels are placed as in such a mix. If there are more, the first two are left and right, as in
 * any WAV, and the rest are in the centre.
 */
function usualGains(channels: number): readonly Gains[] {
  const mask = usualMasks[channels - 3];
  if (mask !== undefined) return heard(speakersOf(mask));
  return Array.from({ length: channels }, (_, channel) => (channel < 2 ? speakers[channel]! : middle));
}

/** The same gains, with the low-frequency channel in the centre. */
function heard(gains: readonly Gains[]): readonly Gains[] {
  return gains.map((gain) => (gain === nowhere ? middle : gain));
}

/** Gains of the speakers in a mask, in the order of its bits. Bits without a meaning are placed in the centre. */
function speakersOf(mask: number): readonly Gains[] {
  return Array.from({ length: 32 }, (_, bit) => bit)
    .filter((bit) => ((mask >>> bit) & 1) === 1)
    .map((bit) => speakers[bit] ?? middle);
}

/**
 * Creates a limiter: it attenuates at once what would exceed full scale and recovers slowly. It works in place, on
 * stereo.
 */
function limiterOf(sampleRateHz: number): (stereo: Float32Array) => void {
  const release = 1 / (limiterReleaseSeconds * sampleRateHz);
  let gain = 1;
  return (stereo) => {
    for (let at = 0; at < stereo.length; at += 2) {
      const peak = Math.max(Math.abs(stereo[at]!), Math.abs(stereo[at + 1]!));
      if (peak * gain > limiterPeak) gain = limiterPeak / peak;
      stereo[at]! *= gain;
      stereo[at + 1]! *= gain;
      gain += (1 - gain) * release;
    }
  };
}
