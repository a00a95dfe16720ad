import { decoderDelaySamples, lameDelaySamples } from "./mp3-frame.ts";

/** A sound with fewer samples than this results in fewer than nine MPEG-1 frames. */
export const shortSoundSamples = 8112;

/**
 * The silence to encode before and after a sound, in samples per channel. Only short sounds get silence, and the Info
 * frame tells players to skip it. ffmpeg (7.0) may take an MP3 of fewer than seven frames for video, and plays too much
 * if the delay ends in the frame in which the padding begins; here, the delay fills whole frames. mp3val warns below
 * ten frames. More silence would not fit into the 12 bits of the delay and the padding.
 */
export function silenceAround(samples: number): { readonly before: number; readonly after: number } {
  return samples < shortSoundSamples
    ? { before: 4 * 1152 - lameDelaySamples - decoderDelaySamples, after: 2 * 1152 }
    : { before: 0, after: 0 };
}

/**
 * Returns the silence around a sound whose MP3 would be too short for decoders, in samples of the source.
 * @param mp3Samples the length of the sound, in samples of the MP3
 * @param ratio samples of the MP3 for each sample of the source
 */
export function silenceAroundShort(mp3Samples: number, ratio: number): { before: number; after: number } {
  const { before, after } = silenceAround(shortSoundSamples - 1);
  return { before: leadingSilence(before, ratio, mp3Samples), after: Math.round(after / ratio) };
}

/**
 * Length of the silence before a short sound, in source samples. It is as close as possible to a whole number of MP3
 * samples, of which there are `ratio` for each source sample. It lasts `before` MP3 samples or slightly less, so that
 * the sound still reaches beyond the end of that frame.
 */
function leadingSilence(before: number, ratio: number, mp3Samples: number): number {
  const offBy = (silence: number): number => Math.abs(silence * ratio - Math.round(silence * ratio));
  let best = Math.floor(before / ratio);
  for (let silence = best; before - silence * ratio < Math.min(mp3Samples, 576); silence--) {
    if (offBy(silence) < offBy(best) - 1e-9) best = silence;
  }
  return best;
}
