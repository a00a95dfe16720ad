import { spawnSync } from "node:child_process";
import { describe, expect, it } from "@jest/globals";
import { EncoderPool } from "../src/audio/encoder/encoder-pool.ts";
import { openConversion, type ConversionFacts } from "../src/audio/wav-to-mp3.ts";
import { ffmpeg } from "./support/ffmpeg.ts";
import { chunk, inPieces, wavFile } from "./support/wav-maker.ts";

/** Noise of this many samples, encoded by ffmpeg, with a `fact` chunk. */
function adpcm(codec: string, samples: number, channels: number): { wav: Buffer; factAt: number; dataAt: number } {
  const noise = `anoisesrc=a=0.5:seed=3:r=22050,aformat=channel_layouts=${channels === 1 ? "mono" : "stereo"}`;
  const source = ["-f", "lavfi", "-i", `${noise},atrim=end_sample=${samples}`];
  const { stdout } = spawnSync(ffmpeg.path, ["-v", "error", ...source, "-c:a", codec, "-f", "wav", "pipe:1"]);
  const formatBytes = stdout.readUInt32LE(16);
  const fact = Buffer.alloc(4);
  fact.writeUInt32LE(samples);
  const wav = wavFile({
    formatChunk: stdout.subarray(20, 20 + formatBytes),
    before: [chunk("fact", fact)],
    data: stdout.subarray(stdout.indexOf("data") + 8),
  });
  return { wav, factAt: wav.indexOf("fact") + 8, dataAt: wav.indexOf("data") + 8 };
}

async function convert(bytes: Buffer, pieceBytes = 5000): Promise<ConversionFacts> {
  await using encoders = new EncoderPool({ ffmpeg });
  const { signal } = new AbortController();
  const options = { encoders, quality: "LOW", maxDurationSeconds: 60, signal } as const;
  const conversion = await openConversion(inPieces(bytes, pieceBytes), options);
  const frames = conversion.frames();
  let next = await frames.next();
  while (!next.done) next = await frames.next();
  return next.value;
}

describe.each([
  ["adpcm_ms", 1],
  ["adpcm_ms", 2],
  ["adpcm_ima_wav", 1],
  ["adpcm_ima_wav", 2],
])("%s with %i channels", (codec, channels) => {
  const samples = 10_000;
  const { wav, factAt, dataAt } = adpcm(codec, samples, channels);

  it("is as long as its fact chunk says, whatever the size of its pieces and of its sound", async () => {
    expect((await convert(wav)).source.samples).toBe(samples);
    expect((await convert(wav, 1)).source.samples).toBe(samples);
    const open = Buffer.from(wav);
    open.writeUInt32LE(0xffff_ffff, dataAt - 4);
    expect(await convert(open)).toMatchObject({ source: { samples }, warnings: [] });
    const { source } = await convert(Buffer.concat([wav, wav, wav]));
    expect(source.samples).toBe(3 * samples);
  });

  it("is as long as its blocks where the fact chunk is wrong", async () => {
    const lengths = new Set<number>();
    for (const fact of [0, 0xffff_ffff, samples * channels * 3, 100, samples - 5000, samples + 5000]) {
      const wrong = Buffer.from(wav);
      wrong.writeUInt32LE(fact, factAt);
      lengths.add((await convert(wrong)).source.samples);
    }
    expect(lengths.size).toBe(1);
    expect([...lengths][0]).toBeGreaterThan(samples);
    expect([...lengths][0]).toBeLessThan(samples + 2048);
  });

  it("warns of damaged blocks", async () => {
    const damaged = Buffer.from(wav);
    damaged.fill(0xff, dataAt, dataAt + 4);
    const { warnings, source } = await convert(damaged);
    expect(warnings).toContain("DAMAGED");
    expect(source.samples).toBeLessThan(samples);
    expect((await convert(wav)).warnings).not.toContain("DAMAGED");
  });
});
