/** What a timecode is computed from. */
interface TimecodeStart {
  /** Samples since midnight. */
  readonly samples: number;
  readonly sampleRateHz: number;
  /** Frames per second as a fraction: "24000/1001". */
  readonly rate: string;
  /** Whether numbers are left out so that 29.97 frames per second stay with the clock (SMPTE ST 12-1). */
  readonly isDropFrame: boolean;
}

const maxFramesPerSecond = 240;

/**
 * The timecode of a sample, "10:32:15:12"; in drop-frame timecode with a semicolon: "10:32:15;12".
 * @returns undefined if the rate is not one of timecode
 */
export function timecodeOf({ samples, sampleRateHz, rate, isDropFrame }: TimecodeStart): string | undefined {
  const [numerator = 0, denominator = 1] = rate.split("/").map(Number);
  const nominalRate = Math.round(numerator / denominator);
  if (nominalRate < 1 || nominalRate > maxFramesPerSecond) return undefined;
  // Recorders round the start of a frame to a sample, which may lie just before it.
  const frames = (BigInt(samples + 1) * BigInt(numerator)) / (BigInt(sampleRateHz) * BigInt(denominator));
  const skipsNumbers = isDropFrame && denominator === 1001 && nominalRate % 30 === 0;
  const number = Number(frames) + (skipsNumbers ? leftOutNumbers(Number(frames), nominalRate) : 0);
  const seconds = Math.floor(number / nominalRate);
  const parts = [Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60];
  const pad = (part: number): string => `${part}`.padStart(2, "0");
  return `${parts.map(pad).join(":")}${skipsNumbers ? ";" : ":"}${pad(number % nominalRate)}`;
}

/**
 * The numbers that drop-frame timecode leaves out before a frame: the first two (of 60: four) of each minute but the
 * tenth.
 */
function leftOutNumbers(frames: number, nominalRate: number): number {
  const perMinute = nominalRate / 15;
  const framesOfTenMinutes = nominalRate * 600 - 9 * perMinute;
  const within = frames % framesOfTenMinutes;
  const minutes = within < perMinute ? 0 : Math.floor((within - perMinute) / (nominalRate * 60 - perMinute));
  return perMinute * (9 * Math.floor(frames / framesOfTenMinutes) + minutes);
}
