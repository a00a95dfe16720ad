import type { PcmFormat } from "../pcm-format.ts";

/** Largest magnitude of white noise of an even distribution, relative to its root mean square. */
const peakOfNoise = Math.sqrt(3);

/**
 * White noise as loud as this sound, always the same. It needs more bits than any other sound, so that it leaves an encoder
 * nothing in its bit reservoir.
 */
export function noiseLike(sound: Buffer, { sampleFormat }: PcmFormat, byteCount: number): Buffer {
  const is16Bit = sampleFormat === "s16le";
  const [sampleBytes, most] = is16Bit ? [2, 32_767] : [4, 1];
  let energy = 0;
  for (let at = 0; at + sampleBytes <= sound.length; at += sampleBytes) {
    energy += (is16Bit ? sound.readInt16LE(at) : sound.readFloatLE(at)) ** 2;
  }
  const level = peakOfNoise * Math.sqrt((energy * sampleBytes) / Math.max(sampleBytes, sound.length));
  const noise = Buffer.alloc(byteCount);
  // A linear congruential generator (Numerical Recipes).
  let state = 1;
  for (let at = 0; at + sampleBytes <= byteCount; at += sampleBytes) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    const sample = Math.max(-most, Math.min(most, level * (state / 2 ** 31 - 1)));
    if (is16Bit) noise.writeInt16LE(Math.round(sample), at);
    else noise.writeFloatLE(sample, at);
  }
  return noise;
}
