import { EncoderPool } from "../src/audio/encoder/encoder-pool.ts";
import { findFfmpeg } from "../src/audio/encoder/ffmpeg.ts";
import { encodeMp3 } from "../src/audio/encoder/mp3-encoder.ts";
import { encodeMp3 as encodeInOnePass } from "../test/support/mp3-decoders.ts";
import { resumableSourceHash } from "../src/audio/source-hash.ts";
import { openConversion, type Checkpoint, type Checkpoints } from "../src/audio/wav-to-mp3.ts";
import { wavFile } from "../test/support/wav-maker.ts";
import { decodedDelay, decodeMp3, leveled } from "../test/support/mp3.ts";
import type { Figure } from "./support/figure.ts";
import { hardSounds, hardSoundsRateHz } from "./support/hard-sounds.ts";
import { differencesDb, meanDb, noiseToMask, type Ratios } from "./support/noise-to-mask.ts";
import type { Workbench } from "./support/workbench.ts";

const bitrateKbps = 192;
/** Blocks for sounds that last, and for what lies ahead of attacks. */
const blockLengths = [2048, 256] as const;
/**
 * How many frames of silence the passes begin with, with which the service is compared on average. The mean of one pass can differ from that of another by 1 dB,
 * because a few blocks ahead of attacks decide it.
 */
const beginnings = [0, 10, 23, 37];
/** Samples around a joint in which it can be heard: 34 frames. */
const stretchSamples = 34 * 1152;

/**
 * Noise against what the ear masks: the service's MP3s with many joints, compared with one pass of LAME with the same
 * settings.
 */
export async function qualityFigures(bench: Workbench): Promise<Figure[]> {
  const figures: Figure[] = [];
  const seconds = bench.quick ? 16 : 32;
  for (const [name, make] of Object.entries(hardSounds)) {
    const samples = Int16Array.from(make(seconds), (value) => Math.round(value * 32_767));
    const pcm = Buffer.from(samples.buffer);
    const passes: Ratios[][][] = [];
    for (const frames of beginnings) passes.push(await heardOfOnePass(samples, frames * 1152));
    const ofJoined = heard(await encodeInTurns(pcm), samples);
    figures.push(
      {
        name: `${name}: noise to mask`,
        value: meanOf(ofJoined.flat()),
        unit: "dB",
        reference: { name: "passes of LAME", value: averageOf(passes.map((pass) => meanOf(pass.flat()))) },
      },
      ...moreNoise(name, ofJoined, passes, samples.length / 2),
      ...moreNoise(`${name}, resumed`, heard(await encodeResumed(pcm), samples), passes, samples.length / 2),
    );
  }
  return figures;
}

/** The noise of an MP3, compared with the average of several passes, and with the first one in each stretch. */
function moreNoise(name: string, ofMp3: Ratios[][], passes: Ratios[][][], samples: number): Figure[] {
  const means = ofMp3.map((channels, i) => meanOf(channels) - averageOf(passes.map((pass) => meanOf(pass[i]!))));
  const stretches = ofMp3.map((channels, i) => worstStretch(channels, passes[0]![i]!, samples));
  const goal = (atMost: number) => ({ unit: "dB", goal: { of: "value", atMost } }) as const;
  return [
    { name: `${name}: more noise than passes of LAME, mean`, value: Math.max(...means), ...goal(0.3) },
    { name: `${name}: more noise than one pass, worst 0.9 s`, value: Math.max(...stretches), ...goal(1.5) },
  ];
}

/** Encodes a sound that shares one encoder with another one, so that a turn ends as often as possible. */
async function encodeInTurns(pcm: Buffer): Promise<Buffer> {
  await using pool = new EncoderPool({ ffmpeg: await findFfmpeg(), size: 1, turnSeconds: 0 });
  const { signal } = new AbortController();
  const format = { sampleFormat: "s16le", sampleRateHz: hardSoundsRateHz, channels: 2 } as const;
  const encode = async () => {
    using turns = await pool.acquire(signal);
    const frames: Buffer[] = [];
    for await (const bytes of encodeMp3(turns, pieces(pcm), format, { bitrateKbps }, signal)) frames.push(bytes);
    return Buffer.concat(frames);
  };
  const [mp3] = await Promise.all([encode(), encode()]);
  return mp3;
}

/** Converts a sound in parts: each part goes on from the first checkpoint that the one before it has reached behind its place. */
async function encodeResumed(pcm: Buffer): Promise<Buffer> {
  await using encoders = new EncoderPool({ ffmpeg: await findFfmpeg(), size: 1 });
  const wav = wavFile({ format: { channels: 2, sampleRateHz: hardSoundsRateHz, bits: 16 }, data: pcm });
  const places = [1, 2, 3].map((quarter) => (quarter * wav.length) / 4);
  const frames: Buffer[] = [];
  let from: Checkpoint | undefined;
  for (;;) {
    const place = places.shift() ?? Infinity;
    let reached: Checkpoint | undefined;
    const checkpoints: Checkpoints = {
      hash: await resumableSourceHash(),
      from: from?.state(),
      everyBytes: 100_000,
      onCheckpoint: (checkpoint) => {
        if (checkpoint.sourceBytes > place) reached ??= checkpoint;
      },
    };
    const limits = { maxDurationSeconds: 600, maxSourceBytes: wav.length, signal: new AbortController().signal };
    const source = pieces(wav.subarray(from?.sourceBytes ?? 0));
    const conversion = await openConversion(source, { encoders, quality: "STANDARD", ...limits, checkpoints });
    for await (const bytes of conversion.frames()) {
      if (reached) break;
      frames.push(bytes);
    }
    if (!reached) return Buffer.concat(frames);
    from = reached;
  }
}

async function* pieces(pcm: Buffer): AsyncGenerator<Buffer, void, undefined> {
  for (let at = 0; at < pcm.length; at += 65_536) yield pcm.subarray(at, at + 65_536);
}

/** What {@link heard} tells of one pass of LAME that begins with so many samples of silence. */
async function heardOfOnePass(samples: Int16Array, silence: number): Promise<Ratios[][]> {
  const begun = new Int16Array(2 * silence + samples.length);
  begun.set(samples, 2 * silence);
  return heard(await encodeInOnePass(begun, hardSoundsRateHz, 2, bitrateKbps), samples, silence);
}

/** The ratios of an MP3's channels, for each length of blocks. The MP3 has `silence` samples of each channel before the sound. */
function heard(mp3: Buffer, samples: Int16Array, silence = 0): Ratios[][] {
  const source = Float32Array.from(samples, (sample) => sample / 32_767);
  const decoded = leveled(decodeMp3(mp3).subarray(2 * (decodedDelay + silence)), source);
  return blockLengths.map((blockLength) =>
    [0, 1].map((channel) => {
      const [clean, noisy] = [source, decoded].map((sound) =>
        Float64Array.from({ length: source.length / 2 }, (_, i) => sound[2 * i + channel]!),
      ) as [Float64Array, Float64Array];
      return noiseToMask(clean, noisy, hardSoundsRateHz, blockLength);
    }),
  );
}

function meanOf(channels: readonly Ratios[]): number {
  return averageOf(channels.map((channel) => meanDb(channel)).filter((mean) => !Number.isNaN(mean)));
}

function averageOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The largest mean of the difference between the blocks of a stretch. */
function worstStretch(joined: readonly Ratios[], plain: readonly Ratios[], samples: number): number {
  let worst = -Infinity;
  for (let from = 0; from + stretchSamples <= samples; from += 4 * 1152) {
    const differences = joined.flatMap((channel, i) => differencesDb(channel, plain[i]!, from, from + stretchSamples));
    const mean = averageOf(differences);
    if (mean > worst) worst = mean; // not if a stretch is silent
  }
  return worst;
}
