/// <reference lib="dom" />
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, request as httpRequest, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { promisify } from "node:util";
import type { Browser, Page } from "playwright-core";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { openBrowser } from "./support/browser.ts";
import { clientTools, needs } from "./support/needs.ts";
import { append, begin, expectSameAsInOneRequest, offsetOf, take, tus } from "./support/resumable.ts";
import { startService, type TestService } from "./support/service.ts";

const root = join(import.meta.dirname, "../..");
const run = promisify(execFile);
const tusType = "application/offset+octet-stream";

/** What a page of these tests has: the file, where it goes, and how it ends. */
interface Sending {
  readonly endpoint: string;
  readonly token: string;
}

describe("a resumable upload by the clients that exist", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;
  /** Serves pages, programs and the file from another origin than the service's. */
  let pages: Server;
  let pagesUrl: string;
  let folder: string;
  const programs = new Map<string, string>();
  const wav = take(30);

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "resumable-clients-"));
    await writeFile(join(folder, "take.wav"), wav);
    pages = createServer((request, response) => {
      const program = programs.get(request.url!);
      if (request.url === "/take.wav") response.setHeader("content-type", "audio/wav").end(wav);
      else if (program !== undefined) response.setHeader("content-type", "text/javascript").end(program);
      else response.setHeader("content-type", "text/html").end("<!doctype html><title>An app</title>");
    }).listen(0, "127.0.0.1");
    await once(pages, "listening");
    pagesUrl = `http://127.0.0.1:${(pages.address() as AddressInfo).port}`;
    service = await startService({ CORS_ORIGINS: pagesUrl });
    client = new ApiClient(service.url);
  });
  beforeAll(async () => void (ann = await client.createUser("Ann")));

  afterAll(async () => {
    await service?.[Symbol.asyncDispose]();
    pages?.closeAllConnections();
    pages?.close();
    await rm(folder, { recursive: true, force: true });
  });

  const recordingsOf = async (user: Credentials): Promise<number> => {
    const { data } = await client.run("{ me { records { totalCount } uploads { id } } }", {}, user);
    expect(data.me.uploads).toEqual([]);
    return data.me.records.totalCount;
  };

  needs("Chromium", () => {
    let browser: Browser;
    beforeAll(async () => void (browser = await openBrowser()));
    afterAll(async () => await browser?.close());

    /** A page of the other origin, with a program and a file. */
    async function openPage(program: string, opened?: Page): Promise<Page> {
      const page = opened ?? (await browser.newPage());
      page.setDefaultTimeout(120_000); // against hanging only
      await page.goto(pagesUrl);
      await page.addScriptTag({ url: `${pagesUrl}/${program}` });
      await page.evaluate(async () => {
        const blob = await (await fetch("/take.wav")).blob();
        const file = new File([blob], "take.wav", { type: "audio/wav", lastModified: 1 });
        Object.assign(globalThis, { file });
      });
      return page;
    }

    describe("tus-js-client in a browser", () => {
      beforeAll(async () => {
        programs.set("/tus.js", await readFile(join(root, "node_modules/tus-js-client/dist/tus.min.js"), "utf8"));
      });

      /** Sends the file; stops after so many bytes, or else gives the last answer. */
      const send = async (page: Page, chunkSize: number | null, stopAfter: number | null): Promise<any> => {
        const sending = { endpoint: `${service.url}/uploads`, token: ann.token, chunkSize, stopAfter };
        return await page.evaluate(async ({ endpoint, token, chunkSize, stopAfter }) => {
          const { tus, file } = globalThis as any;
          const offsets: number[] = [];
          const done = Promise.withResolvers<any>();
          const upload = new tus.Upload(file, {
            endpoint,
            headers: { authorization: `Bearer ${token}` },
            metadata: { filename: file.name },
            retryDelays: [100, 100, 100],
            chunkSize: chunkSize ?? Infinity,
            onChunkComplete: (_bytes: number, offset: number) => {
              offsets.push(offset);
              if (stopAfter === null || offset < stopAfter) return;
              void upload.abort().then(() => done.resolve({ offsets, url: upload.url }));
            },
            onError: (error: Error) => done.reject(error),
            onSuccess: ({ lastResponse }: any) => {
              const recording = JSON.parse(lastResponse.getBody()).data.upload.recording;
              done.resolve({ offsets, url: upload.url, recording });
            },
          });
          const [earlier] = await upload.findPreviousUploads();
          if (earlier) upload.resumeFromPreviousUpload(earlier);
          upload.start();
          return { earlier: earlier?.uploadUrl ?? null, ...(await done.promise) };
        }, sending);
      };

      it("sends a file from a page of another origin and gets the recording", async () => {
        const page = await openPage("tus.js");
        const { earlier, recording } = await send(page, null, null);
        expect(earlier).toBeNull();
        await expectSameAsInOneRequest(client, ann, wav, recording);
        await page.context().close();
      });

      it("pauses, and goes on where it was after the page was loaded again", async () => {
        const before = await recordingsOf(ann);
        const page = await openPage("tus.js");
        const paused = await send(page, 1_000_000, 2_000_000);
        expect(paused.recording).toBeUndefined();
        const arrived = await offsetOf(paused.url);
        expect(arrived).toBeGreaterThanOrEqual(2_000_000);
        // The address is found by the fingerprint of the file, which the page keeps.
        await openPage("tus.js", page);
        const { earlier, offsets, recording } = await send(page, 1_000_000, null);
        expect(earlier).toBe(paused.url);
        expect(offsets[0]).toBeGreaterThan(arrived);
        expect(await recordingsOf(ann)).toBe(before + 1);
        await expectSameAsInOneRequest(client, ann, wav, recording);
        await page.context().close();
      });
    });

    needs("the client tools", () => {
      describe("Uppy in a browser", () => {
        beforeAll(async () => programs.set("/uppy.js", await bundle(clientTools, uppyProgram)));

        it("pauses, goes on, and has the recording in its event upload-success", async () => {
          const page = await openPage("uppy.js");
          const sending: Sending = { endpoint: `${service.url}/uploads`, token: ann.token };
          const { paused, state, body } = await page.evaluate(async (options) => {
            const { sendWithUppy, file } = globalThis as any;
            return await sendWithUppy(file, options);
          }, sending);
          expect([paused, state]).toEqual([true, "READY"]);
          await expectSameAsInOneRequest(client, ann, wav, body);
          await page.context().close();
        });
      });
    });

    describe("the examples of docs/resumable.md in a browser", () => {
      it("print the link, or have the recording, and nothing else", async () => {
        const examples = await examplesOfThePage();
        expect(examples).toHaveLength(2);
        const [tusExample, fetchExample] = examples as [string, string];
        const own = tusExample.replaceAll("https://music.example.com", service.url);
        expect(own).not.toBe(tusExample);
        programs.set("/example.js", await bundle(root, own));
        programs.set("/send.js", `${fetchExample}\nglobalThis.send = send;`);

        const page = await openPage("send.js");
        const printed: string[] = [];
        page.on("console", (message) => printed.push(message.text()));
        page.on("pageerror", (error) => printed.push(String(error)));
        await page.evaluate((token) => void Object.assign(globalThis, { token }), ann.token);
        await page.addScriptTag({ url: `${pagesUrl}/example.js` });
        await page.waitForEvent("console");
        const { data } = await client.run("{ me { records(first: 1) { nodes { url } } } }", {}, ann);
        expect(printed).toEqual([data.me.records.nodes[0].url]);

        const upload = await begin(client, ann, { sizeBytes: wav.length });
        const recording: any = await page.evaluate(async (url) => {
          const { send, file } = globalThis as any;
          return await send(url, file);
        }, upload.url);
        expect(printed).toHaveLength(1);
        expect(recording.id).toBe(upload.id);
        await expectSameAsInOneRequest(client, ann, wav, recording);
        const gone = await page.evaluate(
          async (url) => {
            const { send, file } = globalThis as any;
            return await send(url, file).catch((error: Error) => String(error));
          },
          `${service.url}/uploads/${"A".repeat(32)}`,
        );
        expect(gone).toBe("Error: The upload is gone: 404");
        await page.context().close();
      });
    });
  });

  describe("the second example of docs/resumable.md in Node", () => {
    it("goes on after a part of the file has arrived, and prints nothing by itself", async () => {
      const [, example] = await examplesOfThePage();
      const program = join(folder, "send.mjs");
      const call = `import { openAsBlob } from "node:fs";
        const [url, path] = process.argv.slice(2);
        console.log((await send(url, await openAsBlob(path))).url);`;
      await writeFile(program, `${call}\n${example}`);
      const upload = await begin(client, ann, { sizeBytes: wav.length });
      await append(upload.url, wav.subarray(0, 1_234_567), 0);
      const { stdout, stderr } = await run(process.execPath, [program, upload.url, join(folder, "take.wav")]);
      const { data } = await client.run("{ me { records(first: 1) { nodes { id url } } } }", {}, ann);
      const [{ id, url }] = data.me.records.nodes;
      expect({ id, stdout, stderr }).toEqual({ id: upload.id, stdout: `${url}\n`, stderr: "" });
    });
  });

  needs("curl", () => {
    it("is sent by curl in parts, and goes on where it was", async () => {
      const path = join(folder, "take.wav");
      const headers = ["-H", "Tus-Resumable: 1.0.0"];
      const metadata = `filename ${Buffer.from("take.wav").toString("base64")}`;
      const create = ["-H", `Upload-Length: ${wav.length}`, "-H", `Upload-Metadata: ${metadata}`];
      const authorized = ["-H", `Authorization: Bearer ${ann.token}`];
      const curl = async (...args: string[]): Promise<string> => (await run("curl", ["-sS", ...args])).stdout;
      const made = await curl("-i", "-X", "POST", ...headers, ...create, ...authorized, `${service.url}/uploads`);
      expect(made).toMatch(/^HTTP\/1.1 201 /);
      const url = /^location: (\S+)/im.exec(made)![1]!;

      const sendAt = (offset: number) => [
        "-i",
        ...headers,
        "-H",
        `Content-Type: ${tusType}`,
        "-H",
        `Upload-Offset: ${offset}`,
      ];
      await writeFile(join(folder, "part"), wav.subarray(0, 1_000_001));
      const first = await curl("-X", "PATCH", ...sendAt(0), "--data-binary", `@${join(folder, "part")}`, url);
      expect(first).toMatch(/HTTP\/1.1 204 [^]*^upload-offset: 1000001\r$/im);
      expect(await curl("-I", ...headers, url)).toMatch(/^HTTP\/1.1 200 [^]*^upload-offset: 1000001\r$/im);
      await writeFile(join(folder, "part"), wav.subarray(1_000_001, 2_500_000));
      const second = await curl("-X", "PATCH", ...sendAt(1_000_001), "-T", join(folder, "part"), url);
      expect(second).toMatch(/HTTP\/1.1 204 [^]*^upload-offset: 2500000\r$/im);
      // From a pipe, in chunks of which curl does not know the number.
      const rest = `tail -c +2500001 '${path}' | curl -sS -X PATCH ${sendAt(2_500_000)
        .slice(1)
        .map((word) => `'${word}'`)
        .join(" ")} -T - '${url}'`;
      const { stdout } = await run("sh", ["-c", rest]);
      await expectSameAsInOneRequest(client, ann, wav, JSON.parse(stdout).data.upload.recording);
    });
  });

  it("is sent as tus-java-client does: POST for PATCH, chunked, and each answer has exactly what was sent", async () => {
    const created = await tus(`${service.url}/uploads`, {
      method: "POST",
      headers: { "upload-length": String(wav.length), authorization: `Bearer ${ann.token}` },
    });
    expect(created.status).toBe(201);
    const url = created.headers.get("location")!;
    const requestBytes = 1_111_111;
    for (let offset = 0; offset < wav.length; offset += requestBytes) {
      const end = Math.min(wav.length, offset + requestBytes);
      const answer = await sendChunked(url, wav.subarray(offset, end), offset);
      expect([answer.status, answer.offset]).toEqual([end < wav.length ? 204 : 200, end]);
      if (end < wav.length) continue;
      const { recording } = JSON.parse(answer.body).data.upload;
      await expectSameAsInOneRequest(client, ann, wav, recording);
    }
  });

  it("is sent as TUSKit does: 500 KiB in each request, and HEAD before each", async () => {
    const metadata = `filename ${Buffer.from("take.wav").toString("base64")}, filetype ${Buffer.from("audio/wav").toString("base64")}`;
    const created = await tus(`${service.url}/uploads`, {
      method: "POST",
      headers: {
        "upload-length": String(wav.length),
        "upload-extension": "creation",
        "upload-metadata": metadata,
        authorization: `Bearer ${ann.token}`,
      },
    });
    expect(created.status).toBe(201);
    const url = created.headers.get("location")!;
    let last: Response | undefined;
    for (let offset = 0; offset < wav.length;) {
      expect(await offsetOf(url)).toBe(offset);
      last = await append(url, wav.subarray(offset, offset + 500 * 1024), offset);
      offset = Number(last.headers.get("upload-offset"));
    }
    expect(last!.status).toBe(200);
    await expectSameAsInOneRequest(client, ann, wav, (await last!.json()).data.upload.recording);
    // It asks once more before it reports success.
    expect(await offsetOf(url)).toBe(wav.length);
  });
});

/** Uppy, which pauses after the first bytes and goes on. */
const uppyProgram = `
import Uppy from "@uppy/core";
import Tus from "@uppy/tus";
globalThis.sendWithUppy = async (file, { endpoint, token }) => {
  const done = Promise.withResolvers();
  const uppy = new Uppy({ allowMultipleUploadBatches: false });
  const headers = { authorization: \`Bearer \${token}\` };
  uppy.use(Tus, { endpoint, headers, chunkSize: 1_000_000, retryDelays: [100, 100], allowedMetaFields: ["filename", "name"] });
  let paused = false;
  uppy.on("upload-progress", ({ id }, { bytesUploaded }) => {
    if (paused || bytesUploaded < 1_500_000) return;
    paused = uppy.pauseResume(id);
    setTimeout(() => uppy.pauseResume(id), 200);
  });
  uppy.on("upload-success", (_file, { body }) => {
    const { state, recording } = JSON.parse(body.xhr.responseText).data.upload;
    done.resolve({ paused, state, body: recording });
  });
  uppy.on("upload-error", (_file, error) => done.reject(error));
  uppy.addFile({ name: file.name, type: file.type, data: file });
  await uppy.upload();
  return await done.promise;
};
`;

/** Vite, which does not run inside Jest. */
const bundler = `
const { build } = await import("vite");
const [root, entry] = process.argv.slice(1);
const lib = { entry, formats: ["iife"], name: "example" };
const define = { "process.env.NODE_ENV": '"production"' };
const options = { configFile: false, logLevel: "error", root, define, build: { write: false, minify: false, lib } };
const [built] = [await build(options)].flat();
process.stdout.write(built.output[0].code);
`;

/** A program with its packages, as one file for a browser. */
async function bundle(from: string, program: string): Promise<string> {
  const entry = join(from, "node_modules/.resumable-example.js");
  await writeFile(entry, program);
  const node = ["--input-type=module", "-e", bundler, from, entry];
  const { stdout } = await run(process.execPath, node, { cwd: root, maxBuffer: 2 ** 26 });
  await rm(entry);
  return stdout;
}

/** The programs in docs/resumable.md. */
async function examplesOfThePage(): Promise<string[]> {
  const page = await readFile(join(root, "docs/resumable.md"), "utf8");
  return Array.from(page.matchAll(/^```js\n([^]*?)^```$/gm), ([, program]) => program!);
}

/** Sends a part of a file as Java's HttpURLConnection does, which cannot PATCH. */
async function sendChunked(
  url: string,
  part: Buffer,
  offset: number,
): Promise<{ readonly status: number; readonly offset: number; readonly body: string }> {
  const headers = {
    "Tus-Resumable": "1.0.0",
    "X-HTTP-Method-Override": "PATCH",
    "Content-Type": tusType,
    "Upload-Offset": String(offset),
    "Transfer-Encoding": "chunked",
    Expect: "100-continue",
  };
  const request = httpRequest(url, { method: "POST", headers });
  for (let at = 0; at < part.length; at += 2 ** 21) request.write(part.subarray(at, at + 2 ** 21));
  request.end();
  const [response] = await once(request, "response");
  const told = Number(response.headers["upload-offset"]);
  return { status: response.statusCode, offset: told, body: await text(response) };
}
