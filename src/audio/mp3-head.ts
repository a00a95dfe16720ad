import { replayGainDb } from "./meter/loudness.ts";
import { id3Tag } from "./mp3/id3-tag.ts";
import { mp3GainDb } from "./mp3/mp3-gain.ts";
import { infoFrame } from "./mp3/mp3-header.ts";
import type { ConversionFacts } from "./wav-to-mp3.ts";

/**
 * Makes the bytes that stand before the frames: the tag, and the Info frame that tells players the length.
 * @param minBytes size up to which the tag is padded
 */
export function mp3Head({ source, mp3, sound }: ConversionFacts, title: string, minBytes = 0): Buffer {
  const { sampleRateHz } = source.format;
  const gainDb = mp3GainDb(mp3.bitrateKbps, mp3.gainSteps);
  const level = {
    replayGainDb: sound.integratedLufs === null ? undefined : replayGainDb(sound.integratedLufs + gainDb),
    peak: sound.samplePeak * 10 ** (gainDb / 20),
  };
  const facts = {
    durationSeconds: source.samples / sampleRateHz,
    chapters: source.chapters,
    cover: source.tags.cover,
  };
  const samples = Math.round((source.samples * mp3.sampleRateHz) / sampleRateHz);
  const info = infoFrame(mp3.index, { samples, silenceBefore: mp3.silenceBefore, gainSteps: mp3.gainSteps, ...level });
  const tag = id3Tag({ ...source.tags.texts, ...facts, title, ...level }, Math.max(0, minBytes - info.length));
  return Buffer.concat([tag, info]);
}
