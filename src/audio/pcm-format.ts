/** Interleaved samples, as the WAV reader passes them to the meter and the encoder. */
export interface PcmFormat {
  /** Signed 16-bit integers, or 32-bit floats (full scale 1); both little-endian. */
  readonly sampleFormat: "s16le" | "f32le";
  readonly sampleRateHz: number;
  readonly channels: 1 | 2;
}

/** Bytes of one sample of every channel. */
export function bytesPerPcmFrame(format: PcmFormat): number {
  return format.channels * (format.sampleFormat === "s16le" ? 2 : 4);
}
