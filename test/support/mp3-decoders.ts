import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer, text } from "node:stream/consumers";
import { MPEGDecoder } from "mpg123-decoder";
import { ffmpeg } from "./ffmpeg.ts";

/** Encodes interleaved 16-bit samples in one pass, with the service's settings, and gives the bare MP3 frames. */
export async function encodeMp3(
  samples: Int16Array,
  sampleRateHz: number,
  channels: 1 | 2,
  bitrateKbps: number,
): Promise<Buffer> {
  const input = ["-f", "s16le", "-ar", `${sampleRateHz}`, "-ac", `${channels}`, "-i", "pipe:0"];
  const codec = ["-c:a", "libmp3lame", "-b:a", `${bitrateKbps}k`, "-compression_level", "5"];
  const output = ["-write_xing", "0", "-id3v2_version", "0", "-f", "mp3", "pipe:1"];
  const pcm = Buffer.from(samples.buffer, samples.byteOffset, samples.byteLength);
  return (await run(ffmpeg.path, ["-v", "error", ...input, ...codec, ...output], pcm)).stdout;
}

/**
 * The interleaved samples (full scale 1) that ffmpeg decodes; Chromium uses the same demuxer. ffmpeg reads a file,
 * because it skips the padding at the end only if it knows the size.
 */
export async function decodeWithFfmpeg(mp3: Buffer): Promise<Float32Array> {
  return floats(
    (await runOnFile(mp3, (file) => [ffmpeg.path, "-v", "error", "-i", file, "-f", "f32le", "pipe:1"])).stdout,
  );
}

/** What `ffmpeg -i` prints about an MP3. */
export async function describeWithFfmpeg(mp3: Buffer): Promise<string> {
  return (await runOnFile(mp3, (file) => [ffmpeg.path, "-hide_banner", "-i", file, "-c", "copy", "-f", "null", "-"]))
    .stderr;
}

/** The tags as ffmpeg reads them, by its own names for them. */
export async function readTagsWithFfmpeg(mp3: Buffer): Promise<Record<string, string>> {
  const { stdout } = await runOnFile(mp3, (file) => [
    ffmpeg.path,
    "-v",
    "error",
    "-i",
    file,
    "-f",
    "ffmetadata",
    "pipe:1",
  ]);
  const tags: Record<string, string> = {};
  // ffmpeg escapes = ; # \ and line ends by a backslash.
  for (const [, name, value] of stdout.toString().matchAll(/^((?:\\[^]|[^\\=\n;])+)=((?:\\[^]|[^\\\n])*)$/gm)) {
    if (name !== undefined && value !== undefined) tags[unescape(name)] = unescape(value);
  }
  return tags;
}

/** The interleaved samples (full scale 1) that libmpg123 decodes, which must report no problem. */
export async function decodeWithMpg123(mp3: Buffer, channels: number): Promise<Float32Array> {
  const decoder = new MPEGDecoder();
  await decoder.ready;
  try {
    const { channelData, samplesDecoded, errors } = decoder.decode(mp3);
    if (errors.length > 0) throw new Error(`mpg123 says: ${errors.map(({ message }) => message).join("; ")}`);
    const interleaved = new Float32Array(samplesDecoded * channels);
    // For mono, it returns the channel twice.
    for (let channel = 0; channel < channels; channel++) {
      const samples = channelData[channel]!;
      for (let at = 0; at < samplesDecoded; at++) interleaved[at * channels + channel] = samples[at]!;
    }
    return interleaved;
  } finally {
    decoder.free();
  }
}

/** The problems that mp3val finds in an MP3, line by line. It must also count the given number of frames. */
export async function problemsFoundByMp3val(mp3: Buffer, frames: number): Promise<string[]> {
  const { stdout } = await runOnFile(mp3, (file) => ["mp3val", file]);
  const said = stdout.toString().trim().split("\n");
  const counted = said.some((line) => line.includes(` ${frames} MPEG frames`));
  return [
    ...said.filter((line) => !line.startsWith("INFO:") && !line.startsWith("Analyzing file") && line !== "Done!"),
    ...(counted ? [] : [`not ${frames} frames: ${said.join("; ")}`]),
  ];
}

async function runOnFile(mp3: Buffer, commandLine: (file: string) => readonly [string, ...string[]]) {
  const folder = await mkdtemp(join(tmpdir(), "mp3-"));
  try {
    const file = join(folder, "sound.mp3");
    await writeFile(file, mp3);
    const [command, ...args] = commandLine(file);
    return await run(command, args, Buffer.alloc(0));
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function run(command: string, args: readonly string[], input: Buffer) {
  const child = spawn(command, args);
  // A program that has read enough may close its end early; its exit code tells whether that was a failure.
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  const closed = once(child, "close").catch((cause: unknown) => {
    throw new Error(`${command} cannot be started`, { cause });
  });
  const [[code], stdout, stderr] = await Promise.all([closed, buffer(child.stdout), text(child.stderr)]);
  if (code !== 0) throw new Error(`${command} ended with ${String(code)}: ${stderr}`);
  return { stdout, stderr };
}

function floats(bytes: Buffer): Float32Array {
  return new Float32Array(new Uint8Array(bytes).buffer);
}

function unescape(escaped: string): string {
  return escaped.replace(/\\([^])/g, "$1");
}
