/**
 * How far the noise of a coded sound lies above what its source masks: the noise-to-mask ratio of ITU-R BS.1387 (basic
 * version, section 3 and 4), in dB; below 0 it should be inaudible. `blockLength` is 2048 for sounds that last, or
 * shorter for noise that spreads ahead of attacks. Both sounds are one channel at the same level, as long as each
 * other.
 */
export function noiseToMask(source: Float64Array, coded: Float64Array, rateHz: number, blockLength: number): Ratios {
  const ear = earOf(rateHz, blockLength);
  const hop = blockLength / 2;
  const ratios: number[] = [];
  let smeared = new Float64Array(ear.bands.length);
  for (let at = 0; at + blockLength <= source.length; at += hop) {
    const clean = spectrum(source, at, ear);
    const noisy = spectrum(coded, at, ear);
    const noise = clean.map((amplitude, bin) => (amplitude - noisy[bin]!) ** 2);
    const energy = perBand(
      clean.map((amplitude) => amplitude ** 2),
      ear,
    ).map((value, band) => value + ear.bands[band]!.ownNoise);
    const spreadEnergy = spread(energy, ear).map((value, band) => value / ear.spreadOfFlat[band]!);
    smeared = smeared.map((last, band) => {
      const { decay } = ear.bands[band]!;
      return decay * last + (1 - decay) * spreadEnergy[band]!;
    });
    let sum = 0;
    for (const [band, value] of perBand(noise, ear).entries()) {
      sum += value / (Math.max(smeared[band]!, spreadEnergy[band]!) / ear.bands[band]!.maskOffset);
    }
    const isSilent = clean.every((amplitude) => amplitude < 1e-3);
    ratios.push(isSilent ? NaN : sum / ear.bands.length);
  }
  return { ratios, hop };
}

/**
 * The ratio of each block (as a factor, not in dB), NaN in digital silence; blocks begin `hop` samples after one
 * another.
 */
export interface Ratios {
  readonly ratios: readonly number[];
  readonly hop: number;
}

/** The mean of all blocks in dB; NaN if they are silent. */
export function meanDb({ ratios }: Ratios): number {
  const heard = ratios.filter((ratio) => !Number.isNaN(ratio));
  return 10 * Math.log10(heard.reduce((sum, ratio) => sum + ratio, 0) / heard.length);
}

/**
 * By how many dB the ratios of one MP3 exceed another's, for each block from sample `from` up to `to` that is not
 * silent.
 */
export function differencesDb(one: Ratios, other: Ratios, from: number, to: number): number[] {
  const first = Math.ceil(from / one.hop);
  const differences = one.ratios
    .slice(first, to / one.hop)
    .map((ratio, i) => 10 * Math.log10((ratio + inaudible) / (other.ratios[first + i]! + inaudible)));
  return differences.filter((difference) => !Number.isNaN(difference));
}

/** Ratios below this (-20 dB) are alike to the ear. */
const inaudible = 0.01;

interface Band {
  readonly bins: readonly { readonly bin: number; readonly share: number }[];
  readonly centreHz: number;
  readonly ownNoise: number;
  /** How far below the excitation the mask lies, as a factor. */
  readonly maskOffset: number;
  /** What is left of the excitation after one block. */
  readonly decay: number;
}

interface Ear {
  readonly blockLength: number;
  readonly window: Float64Array;
  /** From samples to the amplitude in the middle ear, by bin. */
  readonly weights: Float64Array;
  readonly bands: readonly Band[];
  readonly bandBark: number;
  readonly spreadOfFlat: readonly number[];
}

const ears = new Map<string, Ear>();

function earOf(rateHz: number, blockLength: number): Ear {
  const key = `${rateHz} ${blockLength}`;
  const ear = ears.get(key) ?? makeEar(rateHz, blockLength);
  ears.set(key, ear);
  return ear;
}

/** A full-scale tone is as loud as 92 dB SPL. */
const fullScaleDb = 92;

function makeEar(rateHz: number, blockLength: number): Ear {
  const binHz = rateHz / blockLength;
  const window = new Float64Array(blockLength).map(
    (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / (blockLength - 1)),
  );
  const toneAmplitude = window.reduce((sum, value) => sum + value, 0) / 2;
  const level = 10 ** (fullScaleDb / 20) / toneAmplitude;
  const weights = new Float64Array(blockLength / 2 + 1).map((_, bin) => {
    const khz = Math.max(bin * binHz, 1e-3) / 1000;
    const db = -2.184 * khz ** -0.8 + 6.5 * Math.exp(-0.6 * (khz - 3.3) ** 2) - 1e-3 * khz ** 3.6;
    return level * 10 ** (db / 20);
  });
  const bandBark = blockLength >= 1024 ? 0.25 : 0.5;
  const lowest = toBark(80);
  const bands: Band[] = [];
  for (let bark = lowest; bark + bandBark <= toBark(Math.min(18_000, rateHz / 2)); bark += bandBark) {
    const [low, high, centreHz] = [toHz(bark), toHz(bark + bandBark), toHz(bark + bandBark / 2)];
    const bins = [];
    for (let bin = Math.floor(low / binHz); bin <= Math.ceil(high / binHz); bin++) {
      const share = (Math.min(high, (bin + 0.5) * binHz) - Math.max(low, (bin - 0.5) * binHz)) / binHz;
      if (share > 0 && bin < weights.length) bins.push({ bin, share });
    }
    const above = toBark(centreHz) - lowest;
    const decaySeconds = 0.008 + (100 / centreHz) * (0.03 - 0.008);
    bands.push({
      bins,
      centreHz,
      ownNoise: 10 ** (0.4 * 0.364 * (centreHz / 1000) ** -0.8),
      maskOffset: 10 ** ((above <= 12 ? 3 : 0.25 * above) / 10),
      decay: Math.exp(-blockLength / 2 / rateHz / decaySeconds),
    });
  }
  const ear = { blockLength, window, weights, bands, bandBark, spreadOfFlat: [] };
  return { ...ear, spreadOfFlat: spread(Array<number>(bands.length).fill(1), ear) };
}

function toBark(hz: number): number {
  return 7 * Math.asinh(hz / 650);
}

function toHz(bark: number): number {
  return 650 * Math.sinh(bark / 7);
}

function perBand(energies: Float64Array, { bands }: Ear): number[] {
  return bands.map(({ bins }) => bins.reduce((sum, { bin, share }) => sum + share * energies[bin]!, 1e-12));
}

/** Spreads each band's energy to the others: 27 dB per Bark downwards, upwards the less the louder it is. */
function spread(energies: readonly number[], { bands, bandBark }: Ear): number[] {
  const count = energies.length;
  const compressed = new Float64Array(count);
  const down = 10 ** (-2.7 * bandBark);
  for (const [band, energy] of energies.entries()) {
    const slope = Math.min(-(24 + 230 / bands[band]!.centreHz) + 2 * Math.log10(energy), -1);
    const up = 10 ** ((slope * bandBark) / 10);
    const total = geometricSum(down, band + 1) + geometricSum(up, count - band) - 1;
    const own = (energy / total) ** 0.4;
    const [downStep, upStep] = [down ** 0.4, up ** 0.4];
    for (let other = band, share = own; other >= 0; other--, share *= downStep) compressed[other]! += share;
    for (let other = band + 1, share = own * upStep; other < count; other++, share *= upStep)
      compressed[other]! += share;
  }
  return Array.from(compressed, (value) => value ** 2.5);
}

function geometricSum(ratio: number, terms: number): number {
  return (1 - ratio ** terms) / (1 - ratio);
}

/** The amplitudes of one block in the middle ear. */
function spectrum(sound: Float64Array, at: number, { blockLength, window, weights }: Ear): Float64Array {
  const real = new Float64Array(blockLength);
  for (let i = 0; i < blockLength; i++) real[i] = sound[at + i]! * window[i]!;
  const imaginary = new Float64Array(blockLength);
  transform(real, imaginary);
  return weights.map((weight, bin) => weight * Math.hypot(real[bin]!, imaginary[bin]!));
}

/** The discrete Fourier transform of a power of two of values, in place (Cooley and Tukey). */
function transform(real: Float64Array, imaginary: Float64Array): void {
  const n = real.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i >= j) continue;
    [real[i], real[j]] = [real[j]!, real[i]!];
    [imaginary[i], imaginary[j]] = [imaginary[j]!, imaginary[i]!];
  }
  for (let size = 2; size <= n; size *= 2) {
    const half = size / 2;
    for (let k = 0; k < half; k++) {
      const [cos, sin] = [Math.cos((2 * Math.PI * k) / size), -Math.sin((2 * Math.PI * k) / size)];
      for (let even = k; even < n; even += size) {
        const odd = even + half;
        const [re, im] = [real[odd]! * cos - imaginary[odd]! * sin, real[odd]! * sin + imaginary[odd]! * cos];
        real[odd] = real[even]! - re;
        imaginary[odd] = imaginary[even]! - im;
        real[even]! += re;
        imaginary[even]! += im;
      }
    }
  }
}
