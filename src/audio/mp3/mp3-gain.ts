/** One step of `global_gain`, in dB: a factor of 2^(1/4) in amplitude (ISO 11172-3 section 2.4.3.4). */
export const gainStepDb = 5 * Math.log10(2);

/**
 * The true peak up to which an MP3 is made louder, and to which floats over full scale are brought down, in dB (EBU R 128).
 * Coding adds up to about 1 dB to it.
 */
export const maxTruePeakDbtp = -1;

/** A peak above this is over full scale, in dBFS; up to it, a float was only rounded. */
const overFullScaleDbfs = 0.01;

/** What an MP3's own gain depends on. */
export interface GainSource {
  readonly bitrateKbps: number;
  readonly samplePeakDbfs: number | null;
  readonly truePeakDbtp: number | null;
  /** By how many dB a mixdown attenuated each channel. */
  readonly mixAttenuationDb: number;
}

/**
 * The gain, in dB, that LAME applies to what it encodes, by the total bit rate of the MP3: a guard against clipping
 * (LAME 3.100, `presets.c`). Mono and stereo, and all sample rates, are alike.
 */
export function lameGainDb(bitrateKbps: number): number {
  const factor = bitrateKbps <= 160 ? 0.95 : bitrateKbps <= 192 ? 0.97 : bitrateKbps <= 224 ? 0.98 : 1;
  return 20 * Math.log10(factor);
}

/**
 * The steps of gain that every player of an MP3 should get. They are negative for floats over full scale, which a player
 * would clip. They are positive for a mixdown: they give back the headroom that its channels did not need, up to
 * {@link maxTruePeakDbtp}.
 */
export function ownGainSteps({ bitrateKbps, samplePeakDbfs, truePeakDbtp, mixAttenuationDb }: GainSource): number {
  if (samplePeakDbfs === null || truePeakDbtp === null) return 0;
  const roomSteps = Math.floor((maxTruePeakDbtp - truePeakDbtp - lameGainDb(bitrateKbps)) / gainStepDb);
  if (samplePeakDbfs > overFullScaleDbfs) return Math.min(0, roomSteps);
  return Math.max(0, Math.min(roomSteps, Math.floor(mixAttenuationDb / gainStepDb)));
}

/** The level of an MP3 relative to its source, or to the stereo mix of it, in dB. */
export function mp3GainDb(bitrateKbps: number, gainSteps: number): number {
  return lameGainDb(bitrateKbps) + gainSteps * gainStepDb;
}
