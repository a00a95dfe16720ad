import { afterEach, describe, expect, it } from "@jest/globals";
import { once } from "node:events";
import { mkdir, mkdtempDisposable, readdir, readFile, readlink, rename, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ServiceError } from "../src/errors/errors.ts";
import { confinementCommand } from "../src/audio/encoder/confinement.ts";
import { EncoderPool } from "../src/audio/encoder/encoder-pool.ts";
import type { Ffmpeg } from "../src/audio/encoder/ffmpeg.ts";
import { FfmpegStarter, type FfmpegProcess } from "../src/audio/encoder/ffmpeg-starter.ts";
import { encodeMp3 } from "../src/audio/encoder/mp3-encoder.ts";
import { ApiClient } from "./support/api-client.ts";
import { assertNoFfmpegRuns, encodersOf, ffmpeg, ffmpegChildrenOf, forkServersOf } from "./support/ffmpeg.ts";
import { startHalfUpload } from "./support/half-upload.ts";
import { needsSystem } from "./support/needs.ts";
import { listProcesses } from "./support/processes.ts";
import { startServiceProcess } from "./support/service-process.ts";
import { createTestDatabase } from "./support/test-database.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

const limits = { addressSpaceBytes: 2 * 1024 ** 3, cpuSeconds: 60 };
const quiet = ["-hide_banner", "-loglevel", "error"];
const copying = [...quiet, "-f", "s16le", "-ar", "8000", "-ac", "1", "-i", "pipe:0"];
const toOutput = ["-f", "s16le", "-flush_packets", "1", "pipe:1"];
const { confinement: _without, ...unconfined } = ffmpeg;

/** Starts a process, and returns it when it has written something. What it writes is dropped. */
async function startCopying(starter: FfmpegStarter): Promise<FfmpegProcess> {
  const child = starter.start([...copying, ...toOutput]);
  child.stdin.write(Buffer.alloc(640_000));
  await once(child.stdout, "readable");
  child.stdout.resume();
  return child;
}

/** The fork servers of this process, when there are `count`. */
async function forkServersOnce(count: number): Promise<number[]> {
  const servers = await until(
    async () => await forkServersOf(process.pid),
    ({ length }) => length === count,
  );
  expect(servers).toHaveLength(count);
  return servers;
}

async function expectGone(pids: readonly number[]): Promise<void> {
  const left = async () => (await listProcesses()).filter(({ pid }) => pids.includes(pid)).map(({ pid }) => pid);
  expect(pids.length).toBeGreaterThan(0);
  expect(await until(left, ({ length }) => length === 0)).toEqual([]);
}

/** Children of a process, also those that have ended and that it has not waited for. */
async function childrenOf(pid: number): Promise<string> {
  return (await readFile(`/proc/${pid}/task/${pid}/children`, "utf8")).trim();
}

/** What the open files of a process are. */
async function filesOf(pid: number): Promise<string[]> {
  const folder = `/proc/${pid}/fd`;
  return await Promise.all((await readdir(folder)).map(async (file) => await readlink(join(folder, file))));
}

needsSystem("a kernel with Landlock and seccomp", ffmpeg.confinement !== undefined, () => {
  describe("a process that the fork server has started", () => {
    afterEach(async () => {
      await assertNoFfmpegRuns();
      await forkServersOnce(0);
    });

    it.each<[string, readonly string[], NodeJS.Signals | undefined]>([
      ["succeeds", [...copying, "-f", "null", "-"], undefined],
      ["fails", ["-hide_banner", "-nonsense"], undefined],
      ["gets SIGKILL", [...copying, ...toOutput], "SIGKILL"],
      ["gets SIGUSR1", [...copying, ...toOutput], "SIGUSR1"],
    ])("ends like one that this process has started, if it %s", async (_, args, signal) => {
      const endOf = async (binary: Ffmpeg) => {
        await using starter = new FfmpegStarter(binary, limits);
        await using child = starter.start(args);
        child.stdin.write(Buffer.alloc(160_000));
        if (signal) {
          await once(child.stdout, "readable");
          process.kill(child.pid!, signal);
        } else child.stdin.end();
        const { code, signal: by, stderr } = await child.ended;
        return { code, by, stderr: stderr.replaceAll(/0x\w+|[\d.]+/g, "_"), isKilled: child.isKilled };
      };
      const [forked, direct] = [await endOf(ffmpeg), await endOf(unconfined)];
      expect(forked).toEqual(direct);
      expect(forked.by).toBe(signal ?? null);
      expect(forked.isKilled).toBe(false);
    });

    it("has no open files but its own three", async () => {
      await using starter = new FfmpegStarter(ffmpeg, limits);
      await using one = await startCopying(starter);
      await using other = await startCopying(starter);
      const files = await Promise.all([one, other].map(async ({ pid }) => [...new Set(await filesOf(pid!))]));
      expect(files.map(({ length }) => length)).toEqual([3, 3]);
      const [server] = await forkServersOnce(1);
      const all = [...files.flat(), ...new Set(await filesOf(server!))];
      expect(new Set(all).size).toBe(all.length);
    });

    it("gets its own sound only, and is waited for when it has ended", async () => {
      await using starter = new FfmpegStarter(ffmpeg, limits);
      const sounds = [1, 2, 3, 4].map((each) => Buffer.alloc(160_000, each));
      const returned = sounds.map(async (sound) => {
        await using child = starter.start([...copying, ...toOutput]);
        child.stdin.end(sound);
        const pieces: Buffer[] = [];
        child.stdout.on("data", (bytes: Buffer) => pieces.push(bytes));
        expect(await child.ended).toEqual({ code: 0, signal: null, stderr: "" });
        return Buffer.concat(pieces).equals(sound);
      });
      expect(await Promise.all(returned)).toEqual([true, true, true, true]);
      const [server] = await forkServersOnce(1);
      expect(await childrenOf(server!)).toBe("");
    });

    it("can be killed before it has started, and while another is left alone", async () => {
      await using starter = new FfmpegStarter(ffmpeg, limits);
      await using other = await startCopying(starter);
      const child = starter.start([...copying, ...toOutput]);
      await child[Symbol.asyncDispose]();
      expect([child.isKilled, (await child.ended).signal]).toEqual([true, "SIGKILL"]);
      other.stdin.end();
      expect((await other.ended).code).toBe(0);
    });
  });

  describe("the fork server", () => {
    afterEach(async () => {
      await assertNoFfmpegRuns();
      await forkServersOnce(0);
    });

    it("is replaced when it has started as many as it can, and ends with the last of them", async () => {
      await using starter = new FfmpegStarter(ffmpeg, limits);
      await using first = await startCopying(starter);
      const [old] = await forkServersOnce(1);
      for (let i = 0; i < 40; i++) {
        await using child = starter.start(["-version"]);
        expect((await child.ended).code).toBe(0);
      }
      expect(await forkServersOnce(2)).toContain(old);
      first.stdin.end();
      expect((await first.ended).code).toBe(0);
      expect(await forkServersOnce(1)).not.toContain(old);
    });

    it("starts a program whose folder was replaced", async () => {
      await using parent = await mkdtempDisposable(join(tmpdir(), "encoder-"));
      const folder = join(parent.path, "bin");
      const path = join(folder, "program");
      const install = async (exitCode: number) => {
        await mkdir(folder);
        await writeFile(path, `#!/bin/sh\nexit ${exitCode}\n`, { mode: 0o755 });
      };
      await using starter = new FfmpegStarter({ ...ffmpeg, path, confinement: confinementCommand(path)! }, limits);
      const run = async () => {
        await using child = starter.start([]);
        return await child.ended;
      };
      await install(41);
      expect(await run()).toEqual({ code: 41, signal: null, stderr: "" });
      await rename(folder, join(parent.path, "old"));
      await install(42);
      expect(await run()).toEqual({ code: 42, signal: null, stderr: "" });
    });

    it("does not end with what a terminal or supervisor sends to the whole session", async () => {
      await using starter = new FfmpegStarter(ffmpeg, limits);
      await using child = await startCopying(starter);
      const [server] = await forkServersOnce(1);
      if (ffmpeg.background)
        for (const signal of ["SIGINT", "SIGQUIT", "SIGTERM"] as const) process.kill(server!, signal);
      child.stdin.end();
      expect((await child.ended).code).toBe(0);
      await using next = starter.start(["-version"]);
      expect((await next.ended).code).toBe(0);
      expect(await forkServersOnce(1)).toEqual([server]);
    });

    it("ends with its processes if it is killed, and the next process gets a new one", async () => {
      await using starter = new FfmpegStarter(ffmpeg, limits);
      const children = [await startCopying(starter), await startCopying(starter)];
      process.kill(children[1]!.pid!, "SIGSTOP"); // so that it does not notice the end of its input
      const [server] = await forkServersOnce(1);
      process.kill(server!, "SIGKILL");
      for (const child of children) {
        expect(await child.ended).toEqual({
          code: null,
          signal: null,
          stderr: "The process that had started it has ended.",
        });
        await child[Symbol.asyncDispose]();
        expect(child.isKilled).toBe(false);
      }
      await expectGone(children.map(({ pid }) => pid!));
      await using next = starter.start(["-version"]);
      expect((await next.ended).code).toBe(0);
      expect(await forkServersOnce(1)).not.toContain(server);
    });

    it("fails the conversion that runs if it is killed, and no later one", async () => {
      await using pool = new EncoderPool({ ffmpeg, size: 1 });
      const never = new AbortController().signal;
      const format = { sampleFormat: "s16le", sampleRateHz: 44_100, channels: 2 } as const;
      const encode = async (source: AsyncIterable<Buffer>) => {
        using turns = await pool.acquire(never);
        let bytes = 0;
        for await (const mp3 of encodeMp3(turns, source, format, { bitrateKbps: 192 }, never)) bytes += mp3.length;
        return bytes;
      };
      async function* sound(meanwhile = async () => {}): AsyncGenerator<Buffer> {
        yield Buffer.alloc(500_000);
        await meanwhile();
        yield Buffer.alloc(500_000);
      }
      const killIt = async () => {
        const servers = await forkServersOnce(1);
        process.kill(servers[0]!, "SIGKILL");
        await expectGone(servers);
      };
      const expected = await encode(sound());
      const failure = await encode(sound(killIt)).catch((error: unknown) => error);
      expect(failure instanceof ServiceError && failure.code).toBe("CONVERSION_FAILED");
      expect(await encode(sound())).toBe(expected);
      const ready = async () => pool.ready;
      expect(await until(ready, (count) => count === 2)).toBe(2);
      await killIt(); // between two conversions
      expect(await until(ready, (count) => count === 0)).toBe(0);
      expect(await encode(sound())).toBe(expected);
    });

    it("ends with a service that is killed, and so do its processes, even one that is stopped", async () => {
      await using database = await createTestDatabase();
      await using service = await startServiceProcess({ DATABASE_URL: database.url, ENCODERS: "2" });
      const { pid } = service.child;
      const ann = await new ApiClient(service.url).createUser("Ann");
      using _upload = await startHalfUpload(service.port, ann, sineWav({ seconds: 20, channels: 2 }));
      const [encoder] = await until(
        async () => await encodersOf(pid),
        ({ length }) => length > 0,
      );
      process.kill(encoder!, "SIGSTOP");
      const all = [...(await ffmpegChildrenOf(pid)), ...(await forkServersOf(pid))];
      expect(all.length).toBeGreaterThan(1);
      service.child.kill("SIGKILL");
      expect(await service.ended).toBe("SIGKILL");
      await expectGone(all);
    });
  });
});
