/** Blocks at or below this loudness, in LUFS, do not count (ITU-R BS.1770-4 annex 1). */
export const absoluteGateLufs = -70;

/**
 * The two K-weighting filters in series. The first numerator coefficient of each is factored out: (1 + b1 z^-1 + b2
 * z^-2) / (1 + a1 z^-1 + a2 z^-2), then (1 - z^-1)^2 / (1 + c1 z^-1 + c2 z^-2).
 */
export interface KWeighting {
  readonly b1: number;
  readonly b2: number;
  readonly a1: number;
  readonly a2: number;
  readonly c1: number;
  readonly c2: number;
  /** The factors that were taken out, as a factor of the power. */
  readonly powerGain: number;
}

/** ITU-R BS.1770-4 annex 1, formula (2), for channels of weight 1. */
export function lufsOfPower(power: number): number {
  return -0.691 + 10 * Math.log10(power);
}

/**
 * BS.1770-4 tabulates both filters only for 48 kHz. These are the analogue prototypes of the tables, converted to any
 * rate by the bilinear transform. At 48 kHz they give the tabulated coefficients.
 */
export function kWeighting(sampleRateHz: number): KWeighting {
  // For sample rates below 3.4 kHz, the shelf begins above half the sample rate. Limited to just below that, the filter
  // passes everything unchanged.
  const shelf = Math.tan(Math.PI * Math.min(1681.974450955533 / sampleRateHz, 0.4999));
  const shelfOverQ = shelf / 0.7071752369554196;
  const high = 10 ** (3.999843853973347 / 20);
  const middle = high ** 0.4996667741545416;
  const shelfFirst = high + middle * shelfOverQ + shelf ** 2;
  const shelfNorm = 1 + shelfOverQ + shelf ** 2;
  const pass = Math.tan((Math.PI * 38.13547087602444) / sampleRateHz);
  const passOverQ = pass / 0.5003270373238773;
  const passNorm = 1 + passOverQ + pass ** 2;
  return {
    b1: (2 * (shelf ** 2 - high)) / shelfFirst,
    b2: (high - middle * shelfOverQ + shelf ** 2) / shelfFirst,
    a1: (2 * (shelf ** 2 - 1)) / shelfNorm,
    a2: (1 - shelfOverQ + shelf ** 2) / shelfNorm,
    c1: (2 * (pass ** 2 - 1)) / passNorm,
    c2: (1 - passOverQ + pass ** 2) / passNorm,
    powerGain: (shelfFirst / shelfNorm) ** 2,
  };
}
