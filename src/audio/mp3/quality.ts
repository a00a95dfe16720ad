/** Constant bit rates for mono and for stereo, in kbit/s. */
export const qualities = {
  LOW: { monoKbps: 48, stereoKbps: 96 },
  STANDARD: { monoKbps: 96, stereoKbps: 192 },
  HIGH: { monoKbps: 160, stereoKbps: 320 },
} as const;

/** A name in {@link qualities}. */
export type Quality = keyof typeof qualities;

export const qualityNames: readonly Quality[] = ["LOW", "STANDARD", "HIGH"];
