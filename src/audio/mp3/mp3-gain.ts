/** One step of `global_gain`, in dB: a factor of 2^(1/4) in amplitude (ISO 11172-3 section 2.4.3.4). */
export const gainStepDb = 5 * Math.log10(2);

/**
 * The true peak up to which an MP3 is made louder, and to which floats over full scale are brought down, in dB (EBU R
 * 128). Coding adds up to about 1 dB to it.
 */
const maxTruePeakDbtp = -1;

/** A peak above this is over full scale, in dBFS; up to it, a float was only rounded. */
const overFullScaleDbfs = 0.01;

/** What an MP3's own gain depends on. */
interface GainSource {
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
function lameGainDb(bitrateKbps: number): number {
  const factor = bitrateKbps <= 160 ? 0.95 : bitrateKbps <= 192 ? 0.97 : bitrateKbps <= 224 ? 0.98 : 1;
  return 20 * Math.log10(factor);
}

/**
 * The steps of gain that every player of an MP3 should get. They are negative for floats over full scale, which a
 * player would clip. They are positive for a mixdown: they give back the headroom that its channels did not need, up to
 * {@link maxTruePeakDbtp}.
 */
export function ownGainSteps({ bitrateKbps, samplePeakDbfs, truePeakDbtp, mixAttenuationDb }: GainSource): number {
  if (samplePeakDbfs === null || truePeakDbtp === null) return 0;
  const lameDb = lameGainDb(bitrateKbps);
  const roomSteps = Math.floor((maxTruePeakDbtp - truePeakDbtp - lameDb) / gainStepDb);
  if (samplePeakDbfs > overFullScaleDbfs) return Math.min(0, roomSteps);
  if (mixAttenuationDb === 0) return 0;
  return Math.max(0, Math.min(roomSteps, Math.round((mixAttenuationDb - lameDb) / gainStepDb)));
}

/** Bounds of the loudness that a link can ask for, in LUFS. */
export const leastLufs = -40;
export const mostLufs = -5;

/** The levels of a stored MP3 and of its source. */
interface StoredLevel {
  readonly bitrateKbps: number;
  /** The steps that every player gets. */
  readonly gainSteps: number;
  readonly integratedLufs?: number | null | undefined;
  readonly samplePeakDbfs?: number | null | undefined;
  readonly truePeakDbtp?: number | null | undefined;
}

/**
 * Between samples, music is louder than at them by up to about 3 dB. For recordings whose true peak was not measured.
 */
const mostBetweenSamplesDb = 3;

/**
 * The steps to add to an MP3 so that its loudness is as close as possible to the wanted one, in LUFS. They make no MP3
 * louder than {@link maxTruePeakDbtp} allows. A sound without a loudness is not changed.
 */
export function stepsToLoudness(stored: StoredLevel, wantedLufs: number): number {
  const { integratedLufs, samplePeakDbfs, truePeakDbtp } = stored;
  if (integratedLufs == null || samplePeakDbfs == null) return 0;
  const gainDb = mp3GainDb(stored.bitrateKbps, stored.gainSteps);
  const steps = Math.round((wantedLufs - integratedLufs - gainDb) / gainStepDb);
  const peakDbtp = gainDb + (truePeakDbtp ?? samplePeakDbfs + mostBetweenSamplesDb);
  const roomSteps = Math.floor((maxTruePeakDbtp - peakDbtp) / gainStepDb);
  return Math.min(steps, Math.max(0, roomSteps));
}

/** The level of an MP3 relative to its source, or to the stereo mix of it, in dB. */
export function mp3GainDb(bitrateKbps: number, gainSteps: number): number {
  return lameGainDb(bitrateKbps) + gainSteps * gainStepDb;
}
