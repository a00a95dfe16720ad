import { readFile } from "node:fs/promises";
import { findFfmpeg, type Ffmpeg } from "../../src/audio/encoder/ffmpeg.ts";
import { FfmpegStarter, type FfmpegProcess } from "../../src/audio/encoder/ffmpeg-starter.ts";
import type { ChildLimits } from "../../src/audio/encoder/started-process.ts";

/** The ffmpeg that the tests use, which is the one that the service would use. */
export const ffmpeg = await findFfmpeg(process.env["FFMPEG_PATH"]);

/** Starts one ffmpeg. What started it ends with it. */
export function startFfmpeg(binary: Ffmpeg, limits: ChildLimits, args: readonly string[]): FfmpegProcess {
  const starter = new FfmpegStarter(binary, limits);
  const child = starter.start(args);
  void child.ended.then(async () => await starter[Symbol.asyncDispose]());
  return child;
}

/** The name of the process that starts encoders for the service. */
const forkServerName = "encoder-fork-server";

async function childrenOf(pid: number): Promise<readonly (readonly [pid: number, command: string])[]> {
  const tasks = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8").catch(() => "");
  const children = tasks.trim().split(" ").filter(Boolean).map(Number);
  return await Promise.all(
    children.map(async (child) => [child, await readFile(`/proc/${child}/cmdline`, "utf8").catch(() => "")] as const),
  );
}

/** Ids of the running fork servers of a process. */
export async function forkServersOf(pid: number): Promise<number[]> {
  return (await childrenOf(pid)).filter(([, command]) => command.includes(forkServerName)).map(([child]) => child);
}

/** Ids of the running ffmpeg processes that a process has started, or that its fork servers have started for it. */
export async function ffmpegChildrenOf(pid: number): Promise<number[]> {
  const parents = await forkServersOf(pid);
  const direct = (await childrenOf(pid)).filter(([child]) => !parents.includes(child));
  const forked = (await Promise.all(parents.map(childrenOf))).flat();
  // One that was just forked has its parent's command line until it becomes ffmpeg. One that has ended has none.
  const isFfmpeg = (command: string) => command.includes("ffmpeg") || command.includes(forkServerName);
  return [...direct, ...forked].filter(([, command]) => isFfmpeg(command)).map(([child]) => child);
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
