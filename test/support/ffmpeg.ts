import { readFile } from "node:fs/promises";
import { findFfmpeg } from "../../src/audio/encoder/ffmpeg.ts";

/** The ffmpeg that the tests use, which is the one that the service would use. */
export const ffmpeg = await findFfmpeg(process.env["FFMPEG_PATH"]);

/** Ids of the running ffmpeg processes that a process has started. */
export async function ffmpegChildrenOf(pid: number): Promise<number[]> {
  const tasks = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8").catch(() => "");
  const children = tasks.trim().split(" ").filter(Boolean).map(Number);
  const names = await Promise.all(
    children.map(async (child) => await readFile(`/proc/${child}/cmdline`, "utf8").catch(() => "")),
  );
  return children.filter((_, i) => names[i]!.includes("ffmpeg"));
}

/**
 * Those of them that have got sound, at least 64 KiB of it. One that is ready before it is needed has only read its
 * libraries.
 */
export async function encodersOf(pid: number): Promise<number[]> {
  const children = await ffmpegChildrenOf(pid);
  const read = await Promise.all(
    children.map(async (child) => await readFile(`/proc/${child}/io`, "utf8").catch(() => "")),
  );
  return children.filter((_, i) => Number(/^rchar: (\d+)$/m.exec(read[i]!)?.[1]) >= 64 * 1024);
}

/** Throws if an ffmpeg that this process has started is still running. */
export async function assertNoFfmpegRuns(): Promise<void> {
  const left = await ffmpegChildrenOf(process.pid);
  if (left.length > 0) throw new Error(`ffmpeg still runs: ${left.join(", ")}`);
}
