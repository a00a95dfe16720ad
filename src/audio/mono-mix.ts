import type { PcmFormat } from "./pcm-format.ts";

/** The format of the mono mix of stereo: floats, because the mean of two 16-bit samples does not fit into 16 bits. */
export function monoFormatOf({ sampleRateHz }: PcmFormat): PcmFormat {
  return { sampleFormat: "f32le", sampleRateHz, channels: 1 };
}

/** The samples of PCM as numbers. */
export function samplesOf(pcm: Buffer, { sampleFormat }: PcmFormat): Int16Array | Float32Array {
  const { buffer } = new Uint8Array(pcm);
  return sampleFormat === "s16le" ? new Int16Array(buffer) : new Float32Array(buffer);
}

/** The mean of both channels of interleaved stereo. Full scale remains full scale. */
export function monoMixOf(stereo: Int16Array | Float32Array): Buffer {
  const gain = stereo instanceof Int16Array ? 0.5 / 32_768 : 0.5;
  const mono = new Float32Array(stereo.length / 2);
  for (let i = 0; i < mono.length; i++) mono[i] = (stereo[2 * i]! + stereo[2 * i + 1]!) * gain;
  return Buffer.from(mono.buffer);
}
