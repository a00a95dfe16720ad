import { spawn } from "node:child_process";
import { once } from "node:events";
import { findFfmpeg } from "../../src/audio/encoder/ffmpeg.ts";
import { cpuSeconds } from "./process-usage.ts";

/** The cost of one run. */
export interface FfmpegRun {
  readonly seconds: number;
  readonly cpuSeconds: number;
}

/** The service's own ffmpeg without the service: the reference for every conversion. */
export class BareFfmpeg {
  readonly version: string;
  readonly #path: string;

  private constructor(path: string, version: string) {
    this.#path = path;
    this.version = version;
  }

  /** Finds the binary that the service uses. */
  static async find(): Promise<BareFfmpeg> {
    const { path, version } = await findFfmpeg();
    return new BareFfmpeg(path, version);
  }

  /** Converts a file with ffmpeg's default settings for LAME, at the service's bit rate. */
  async convert(wav: string, mp3: string): Promise<FfmpegRun> {
    const settings = ["-c:a", "libmp3lame", "-b:a", "192k"];
    const cpuBefore = await cpuSeconds("self");
    const ownBefore = process.cpuUsage();
    const started = performance.now();
    const child = spawn(this.#path, ["-v", "error", "-nostdin", "-y", "-i", wav, ...settings, mp3], {
      stdio: "inherit",
    });
    const [code] = await once(child, "close");
    if (code !== 0) throw new Error(`ffmpeg ended with ${String(code)}`);
    const seconds = (performance.now() - started) / 1000;
    const own = process.cpuUsage(ownBefore);
    return { seconds, cpuSeconds: (await cpuSeconds("self")) - cpuBefore - (own.user + own.system) / 1e6 };
  }
}
