import { execFile } from "node:child_process";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "@jest/globals";
import { ApiClient } from "./support/api-client.ts";
import { ffmpeg } from "./support/ffmpeg.ts";
import { uploadRequest } from "./support/half-upload.ts";
import { needs } from "./support/needs.ts";
import { connectRaw } from "./support/raw-http.ts";
import { startServiceProcess } from "./support/service-process.ts";
import { createTestDatabase } from "./support/test-database.ts";
import { sineWav } from "./support/wav-maker.ts";

needs("util-linux", () => {
  describe("a process that may open few files", () => {
    it("reports that ffmpeg cannot start, and continues, when it has none left", async () => {
      const script = `
        import { openSync, closeSync } from "node:fs";
        import { FfmpegStarter } from ${JSON.stringify(join(import.meta.dirname, "../src/audio/encoder/ffmpeg-starter.js"))};
        const limits = { addressSpaceBytes: 2 ** 31, cpuSeconds: 60 };
        const starter = new FfmpegStarter(${JSON.stringify(ffmpeg)}, limits);
        const files = [];
        try { for (;;) files.push(openSync("/dev/null")); } catch {}
        const codes = [];
        for (let free = 0; free < 8; free++) {
          try {
            const child = starter.start(["-version"]);
            child.stdout.resume();
            codes.push(String((await child.ended).code));
          } catch (error) { codes.push(error.code); }
          closeSync(files.pop());
        }
        for (let more = 0; more < 20; more++) closeSync(files.pop());
        const last = starter.start(["-version"]);
        last.stdout.resume();
        console.log(JSON.stringify([codes[0], (await last.ended).code]));`;
      const command = ["--nofile=128", process.execPath, "--input-type=module", "--eval", script];
      const { stdout } = await promisify(execFile)(ffmpeg.prlimit!, command);
      expect(JSON.parse(stdout)).toEqual(["BUSY", 0]);
    });

    it.each([
      { files: 64, idleConnections: 80 },
      { files: 256, idleConnections: 240 },
    ])("can still convert beside many idle connections: %j", async ({ files, idleConnections }) => {
      await using database = await createTestDatabase();
      await using service = await startServiceProcess({ DATABASE_URL: database.url, DATABASE_POOL_SIZE: "2" }, [
        ffmpeg.prlimit!,
        `--nofile=${files}`,
      ]);
      const client = new ApiClient(service.url);
      const ann = await client.createUser("Ann");
      const wav = sineWav({ seconds: 1 });
      expect((await client.uploadRecord(ann, wav)).status).toBe(200);
      using early = await connectRaw(service.port);
      const idle = await Promise.all(
        Array.from({ length: idleConnections }, async () => await connectRaw(service.port)),
      );
      expect((await readdir(`/proc/${service.child.pid}/fd`)).length).toBeLessThan(files);
      await early.send(uploadRequest(ann, wav).bytes);
      expect((await early.answer())?.status).toBe(200);
      for (const connection of idle) connection.reset();
      expect((await client.uploadRecord(ann, wav)).status).toBe(200);
      expect(service.child.exitCode).toBeNull();
    });
  });
});
