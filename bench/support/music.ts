import { createWriteStream } from "node:fs";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { seededRandom, wavFile } from "../../test/support/wav-maker.ts";

const sampleRateHz = 44_100;
const channels = 2;

/** The music repeats after this time, which is long enough for every kind of passage. */
const loopSeconds = 20;

/** Writes a WAV of 44.1 kHz, 16 bit, stereo: chords that swell and fade, a beat, and noise below them. */
export async function writeMusic(path: string, seconds: number): Promise<void> {
  await pipeline(Readable.from(musicWav(seconds), { objectMode: false }), createWriteStream(path));
}

function* musicWav(seconds: number): Generator<Buffer, void> {
  const dataBytes = seconds * sampleRateHz * channels * 2;
  yield wavFile({ format: { sampleRateHz, channels, bits: 16 }, dataSize: dataBytes });
  const loop = musicLoop(Math.min(seconds, loopSeconds));
  for (let left = dataBytes; left > 0; left -= loop.length) yield loop.subarray(0, left);
}

function musicLoop(seconds: number): Buffer {
  const random = seededRandom(1);
  const frames = seconds * sampleRateHz;
  const samples = new Int16Array(frames * channels);
  const tonesHz = [110, 164.8, 220, 277.2, 329.6, 440, 659.3, 1318.5, 3520, 7040];
  for (let frame = 0; frame < frames; frame++) {
    const second = frame / sampleRateHz;
    const beat = Math.exp(-12 * (second % 0.5));
    for (let channel = 0; channel < channels; channel++) {
      let value = (random() - 0.5) * (0.05 + 0.4 * beat);
      for (const [i, toneHz] of tonesHz.entries()) {
        const swell = 0.5 + 0.5 * Math.sin(2 * Math.PI * second * (0.1 + 0.07 * i) + i + channel);
        value += (swell * Math.sin(2 * Math.PI * toneHz * second)) / (i + 3);
      }
      samples[frame * channels + channel] = Math.round(12_000 * value);
    }
  }
  return Buffer.from(samples.buffer);
}
