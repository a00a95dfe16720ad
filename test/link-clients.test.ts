import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { ApiClient } from "./support/api-client.ts";
import { ffmpeg } from "./support/ffmpeg.ts";
import { needs } from "./support/needs.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

const run = promisify(execFile);
const sampleRateHz = 24_000;
const seconds = 300;

describe("programs that open the link", () => {
  let service: TestService;
  let folder: string;
  let url: string;
  let mp3: Buffer;

  beforeAll(async () => {
    service = await startService();
    folder = await mkdtemp(join(tmpdir(), "web-user-music-link-"));
    const client = new ApiClient(service.url);
    const wav = sineWav({ seconds, channels: 1, sampleRateHz });
    const { data } = await client.uploadRecord(await client.createUser(), wav, {
      fileName: "long.wav",
      fields: "streamUrl",
    });
    url = data.uploadRecord.record.streamUrl;
    mp3 = Buffer.from(await (await fetch(url)).arrayBuffer());
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
    await rm(folder, { recursive: true });
  });

  needs("curl", () => {
    it("curl resumes a broken download", async () => {
      const file = join(folder, "curl.mp3");
      await writeFile(file, mp3.subarray(0, 654_321));
      await run("curl", ["--silent", "--fail", "--continue-at", "-", "--output", file, url]);
      expect((await readFile(file)).equals(mp3)).toBe(true);
    });

    it("curl saves under the name that the service gives", async () => {
      await run("curl", ["--silent", "--fail", "--remote-name", "--remote-header-name", url], { cwd: folder });
      expect((await readFile(join(folder, "long.mp3"))).equals(mp3)).toBe(true);
    });
  });

  needs("wget", () => {
    it("wget continues a broken download, and leaves a whole one alone", async () => {
      const file = join(folder, "wget.mp3");
      await writeFile(file, mp3.subarray(0, 300_000));
      await run("wget", ["--quiet", "--continue", "--output-document", file, url]);
      expect((await readFile(file)).equals(mp3)).toBe(true);
      await run("wget", ["--quiet", "--continue", "--output-document", file, url]);
      expect((await readFile(file)).equals(mp3)).toBe(true);
    });
  });

  it("ffmpeg seeks over HTTP to the sample", async () => {
    const decode = async (input: string[]) => {
      const output = ["-f", "s16le", "-ac", "1", "-t", "0.5", "pipe:1"];
      return await run(ffmpeg.path, ["-v", "error", ...input, ...output], { encoding: "buffer", maxBuffer: 1e8 });
    };
    const { stdout } = await decode(["-ss", "200", "-i", url]);
    expect(stdout.length).toBe(2 * 0.5 * sampleRateHz);
  });

  needs("mpg123", () => {
    it("mpg123 plays it from the address", async () => {
      const { stdout } = await run("mpg123", ["--quiet", "--stdout", url], { encoding: "buffer", maxBuffer: 1e8 });
      expect(stdout.length).toBe(2 * seconds * sampleRateHz);
    });
  });

  it("a player that asks for everything as a range, hangs up and goes on elsewhere gets the right bytes", async () => {
    const leave = new AbortController();
    const first = await fetch(url, { headers: { range: "bytes=0-" }, signal: leave.signal });
    expect(first.status).toBe(206);
    expect(first.headers.get("content-range")).toBe(`bytes 0-${mp3.length - 1}/${mp3.length}`);
    await first.body!.getReader().read();
    leave.abort();
    for (const start of [mp3.length - 128, 1_000_000, 0]) {
      const response = await fetch(url, { headers: { range: `bytes=${start}-` } });
      expect(Buffer.from(await response.arrayBuffer()).equals(mp3.subarray(start))).toBe(true);
    }
  });
});
