/// <reference lib="dom" />
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { execFile } from "node:child_process";
import { createServer, type Server } from "node:http";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { openBrowser } from "./support/browser.ts";
import { needs } from "./support/needs.ts";
import {
  boundary,
  connectRaw,
  fieldPart,
  filePart,
  multipartBody,
  rawPost,
  type RawAnswer,
} from "./support/raw-http.ts";
import { realClients, type RealClient } from "./support/real-clients.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav, wavFile } from "./support/wav-maker.ts";

/** More than the buffers of a connection hold, so that its sender has to wait until the service reads it. */
const silence = Buffer.alloc(16 * 1024 * 1024);

/** The file that the real clients send. */
const longBody = Buffer.concat(uploadBody(Buffer.alloc(64 * 1024 * 1024)));

const badHeaders = {
  authorization: "Bearer wrong",
  "apollo-require-preflight": "1",
  "content-type": `multipart/form-data; boundary=${boundary}`,
};

/** What each client prints for each attempt. */
const seen = "401 UNAUTHENTICATED";
const attempts = 2;
const everyTime = Array.from({ length: attempts }, () => seen).join("\n");

describe("a refusal before the file has arrived", () => {
  let pages: Server;
  let pagesUrl: string;
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;
  let port: number;

  beforeAll(async () => {
    pages = createServer((_request, response) =>
      response.setHeader("content-type", "text/html").end("<!doctype html>"),
    );
    await new Promise<void>((resolve) => pages.listen(0, "127.0.0.1", resolve));
    pagesUrl = `http://127.0.0.1:${(pages.address() as AddressInfo).port}`;
    service = await startService({ CORS_ORIGINS: pagesUrl, MAX_DURATION_SECONDS: "100" });
    client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
    port = Number(new URL(service.url).port);
  });

  afterAll(async () => {
    await service?.[Symbol.asyncDispose]();
    pages?.close();
  });

  describe("reaches a client that sends everything before it reads, as OkHttp, Java, .NET and Python do,", () => {
    const json = { "content-type": "application/json" };
    const bad = { authorization: "Bearer wrong" };
    const good = () => ({ authorization: `Bearer ${ann.token}` });
    const withoutHeader = { "apollo-require-preflight": undefined };
    const post = (path: string): Buffer[] => {
      const [head, body] = request([silence]);
      return [Buffer.from(head!.toString("latin1").replace("/graphql", path), "latin1"), body!];
    };

    it.each<[string, () => Buffer[] | Promise<Buffer[]>, string]>([
      ["a wrong token", () => request(uploadBody(silence), bad), "401 UNAUTHENTICATED"],
      [
        "a wrong token in the operations",
        () => request(uploadBody(silence, { userId: ann.id, token: crypto.randomUUID() })),
        "401 UNAUTHENTICATED",
      ],
      [
        "a token that may only read",
        async () => request(uploadBody(silence), { authorization: `Bearer ${await readToken()}` }),
        "403 FORBIDDEN",
      ],
      ["a file that is no WAV", () => request(uploadBody(silence), good()), "415 UNSUPPORTED_MEDIA"],
      ["a recording that is too long", () => request(uploadBody(longWav()), good()), "413 UPLOAD_TOO_LONG"],
      [
        "a body without a length, refused in its middle",
        () => requestInChunks(uploadBody(silence), good()),
        "415 UNSUPPORTED_MEDIA",
      ],
      ["a form without its header", () => request(uploadBody(silence), withoutHeader), "400 BAD_REQUEST"],
      ["a JSON body that is too large", () => request([silence], json), "413 REQUEST_TOO_LARGE"],
      ["a JSON body that turns out too large", () => requestInChunks([silence], json), "413 REQUEST_TOO_LARGE"],
      ["an unknown type", () => request([silence], { "content-type": "audio/wav" }), "415 UNSUPPORTED_MEDIA"],
      ["an unknown address", () => post("/upload"), "404 NOT_FOUND"],
      ["a method that is not served", () => post("/record"), "405 METHOD_NOT_ALLOWED"],
      ["an address that is not valid", () => post("/%zz"), "400 BAD_REQUEST"],
      [
        "an expectation that nobody knows",
        () => request(uploadBody(silence), { ...bad, expect: "wonders" }),
        "401 UNAUTHENTICATED",
      ],
      ["headers that are too long", () => request([silence], { cookie: "c".repeat(20_000) }), "431 HEADERS_TOO_LARGE"],
    ])("for %s", async (_why, parts, answer) => {
      expect(outcome(await writeFirst(port, await parts()))).toBe(answer);
    });

    it("for a file that is too large, and for one that turns out so", async () => {
      await using strict = await startService({ MAX_UPLOAD_BYTES: "1000000" });
      const { token } = await new ApiClient(strict.url).createUser("Bob");
      const authorization = `Bearer ${token}`;
      const strictPort = Number(new URL(strict.url).port);
      for (const parts of [
        request(uploadBody(silence), { authorization }),
        requestInChunks(uploadBody(longWav()), { authorization }),
      ]) {
        expect(outcome(await writeFirst(strictPort, parts))).toBe("413 UPLOAD_TOO_LARGE");
      }
    });

    it("for one upload too many, and for a quota that is used up", async () => {
      await using strict = await startService({ MAX_UPLOADS_PER_HOUR: "2", QUOTA_RECORDS: "1" });
      const bob = await new ApiClient(strict.url).createUser("Bob");
      expect((await new ApiClient(strict.url).uploadRecord(bob, sineWav({ seconds: 0.1 }))).status).toBe(200);
      const parts = request(uploadBody(longWav()), { authorization: `Bearer ${bob.token}` });
      for (const refusal of ["403 QUOTA_EXCEEDED", "429 RATE_LIMITED"]) {
        expect(outcome(await writeFirst(Number(new URL(strict.url).port), parts))).toBe(refusal);
      }
    });
  });

  it("reaches one whose line is slow", async () => {
    using connection = await connectRaw(port);
    connection.socket.pause();
    const parts = request(uploadBody(silence), { authorization: "Bearer wrong" });
    for (const part of parts) {
      for (let at = 0; at < part.length; at += 1024 * 1024) {
        await connection.send(part.subarray(at, at + 1024 * 1024));
        await delay(60);
      }
    }
    connection.socket.resume();
    expect(outcome(await connection.answer())).toBe("401 UNAUTHENTICATED");
  });

  it("is all that a client gets that asks before it sends", async () => {
    using connection = await connectRaw(port);
    const head = rawPost(Buffer.alloc(0), {
      "apollo-require-preflight": undefined,
      expect: "100-continue",
      "content-length": "1000",
    });
    await connection.send(head);
    expect(outcome(await connection.answer())).toBe("400 BAD_REQUEST");
  });

  it("is not what a client gets that asks before it sends a good file", async () => {
    using connection = await connectRaw(port);
    const headers = { authorization: `Bearer ${ann.token}`, expect: "100-continue" };
    const [head, ...body] = request(uploadBody(sineWav({ seconds: 0.1 })), headers);
    await connection.send(head!);
    expect((await connection.answer())?.status).toBe(100);
    for (const part of body) await connection.send(part);
    expect((await connection.answer())?.status).toBe(200);
  });

  it("begins nothing that was sent behind it", async () => {
    using connection = await connectRaw(port);
    const query = `mutation { createToken(name: "never") { token } }`;
    const behind = rawPost(Buffer.from(JSON.stringify({ query })), {
      "content-type": "application/json",
      authorization: `Bearer ${ann.token}`,
    });
    for (const part of request(uploadBody(silence), { authorization: "Bearer wrong" })) void connection.send(part);
    void connection.send(behind);
    expect(outcome(await connection.answer())).toBe("401 UNAUTHENTICATED");
    await connection.ended();
    const { data } = await client.run("{ me { tokens { name } } }", {}, ann);
    expect(data.me.tokens.map(({ name }: { name: string }) => name)).not.toContain("never");
  });

  it("leaves the connection open where the body has arrived with it", async () => {
    using connection = await connectRaw(port);
    const small = Buffer.concat(request(uploadBody(sineWav({ seconds: 0.1 })), { authorization: "Bearer wrong" }));
    await connection.send(Buffer.concat([small, small]));
    for (let times = 0; times < 2; times++) {
      const answer = await connection.answer();
      expect([outcome(answer), answer?.headers.get("connection")]).toEqual(["401 UNAUTHENTICATED", "keep-alive"]);
    }
  });

  describe("reaches, each time, with a file of 64 MB,", () => {
    let folder: string;
    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), "early-refusal-"));
      await writeFile(join(folder, "body"), longBody);
    });
    afterAll(async () => await rm(folder, { recursive: true, force: true }));

    async function run(program: string, ...args: readonly string[]): Promise<string> {
      const { promise, resolve } = Promise.withResolvers<string>();
      execFile(program, args, { cwd: folder }, (_error, stdout, stderr) => resolve((stdout + stderr).trim()));
      return await promise;
    }

    const { authorization: _token, "apollo-require-preflight": _header, ...noHeaders } = badHeaders;

    needs("curl", () => {
      it.each([
        ["with Expect: 100-continue, before it sends anything,", "100-continue", noHeaders, "BAD_REQUEST", "400 0"],
        ["without", "", badHeaders, "UNAUTHENTICATED", expect.stringMatching(/^401 \d+$/)],
      ])("curl %s", async (_with, expectation, sent, code, numbers) => {
        for (let attempt = 0; attempt < attempts; attempt++) {
          const headers = [
            `expect: ${expectation}`,
            ...Object.entries(sent).map(([name, value]) => `${name}: ${value}`),
          ];
          const options = ["-sS", "--http1.1", "--data-binary", "@body", "-w", "\n%{http_code} %{size_upload}"];
          const url = `${service.url}/graphql`;
          const printed = (await run("curl", ...options, ...headers.flatMap((header) => ["-H", header]), url)).split(
            "\n",
          );
          expect(printed).toEqual([expect.stringContaining(code), numbers]);
        }
      });
    });

    const { ofNode, ofOthers } = realClients(badHeaders, attempts);
    const send = async ({ source, command: [program, ...args] }: RealClient) => {
      await writeFile(join(folder, "Upload.java"), source);
      return await run(program!, ...args, source, `${service.url}/graphql`);
    };

    it.each(ofNode)("$name", async (client) => {
      expect(await send(client)).toBe(everyTime);
    });

    for (const client of ofOthers) {
      needs(client.needs, () => {
        it.each([client])("$name", async () => {
          expect(await send(client)).toBe(everyTime);
        });
      });
    }

    needs("Chromium", () => {
      it("fetch and XMLHttpRequest of Chromium, on a page of another origin", async () => {
        await using browser = await openBrowser();
        const page = await browser.newPage();
        await page.goto(pagesUrl);
        const outcomes = await page.evaluate(sendFromPage, { endpoint: `${service.url}/graphql`, attempts });
        expect(outcomes).toEqual({ fetch: Array(attempts).fill(seen), xhr: Array(attempts).fill(seen) });
      });
    });
  });

  async function readToken(): Promise<string> {
    const query = 'mutation { createToken(name: "reader", scopes: [READ]) { token } }';
    return (await client.run(query, {}, ann)).data.createToken.token;
  }
});

/** Sends all of a request before it reads the response. */
async function writeFirst(port: number, parts: readonly Buffer[]): Promise<RawAnswer | undefined> {
  using connection = await connectRaw(port);
  connection.socket.pause();
  await Promise.all(parts.map(async (part) => await connection.send(part)));
  connection.socket.resume();
  return await connection.answer();
}

/** Status and code of an answer. */
function outcome(answer: RawAnswer | undefined): string | undefined {
  if (!answer) return undefined;
  const { errors, error } = JSON.parse(answer.body || "{}") as { errors?: any[]; error?: any };
  return `${answer.status} ${errors?.[0].extensions.code ?? error?.code}`;
}

/** The head of a request, and its body. */
function request(body: readonly Buffer[], headers: Record<string, string | undefined> = {}): Buffer[] {
  const byteLength = body.reduce((sum, part) => sum + part.length, 0);
  return [rawPost(Buffer.alloc(0), { "content-length": String(byteLength), ...headers }), ...body];
}

function requestInChunks(body: readonly Buffer[], headers: Record<string, string>): Buffer[] {
  const chunks = [...body, Buffer.alloc(0)].flatMap((part) => [
    Buffer.from(`${part.length.toString(16)}\r\n`),
    part,
    Buffer.from("\r\n"),
  ]);
  return request(chunks, { ...headers, "content-length": undefined, "transfer-encoding": "chunked" });
}

/** The body of an upload: the parts before the file, the file, and the end. */
function uploadBody(file: Buffer, credentials?: { userId: string; token: string }): Buffer[] {
  const [declared, given] = credentials
    ? [", $userId: ID, $token: UUID", ", userId: $userId, token: $token"]
    : ["", ""];
  const query = `mutation ($file: Upload!${declared}) { uploadRecord(file: $file${given}) { created } }`;
  const body = multipartBody(
    fieldPart("operations", JSON.stringify({ query, variables: { file: null, ...credentials } })),
    fieldPart("map", '{"0":["variables.file"]}'),
    filePart("0", "take.wav", ""),
  );
  const end = body.length - `\r\n--${boundary}--\r\n`.length;
  return [body.subarray(0, end), file, body.subarray(end)];
}

/** Half an hour of silence whose header does not state its length. */
function longWav(): Buffer {
  const format = { channels: 1, sampleRateHz: 8000, bits: 8 };
  return wavFile({ format, data: silence, dataSize: 0xffff_ffff, size: 0xffff_ffff });
}

/** Runs in the page: sends several times with `fetch` and with `XMLHttpRequest`. */
async function sendFromPage({ endpoint, attempts }: { endpoint: string; attempts: number }) {
  const form = () => {
    const data = new FormData();
    const query = "mutation ($file: Upload!) { uploadRecord(file: $file) { created } }";
    data.set("operations", JSON.stringify({ query, variables: { file: null } }));
    data.set("map", JSON.stringify({ 0: ["variables.file"] }));
    data.set("0", new File([new Uint8Array(64 * 1024 * 1024)], "take.wav"));
    return data;
  };
  const headers = { authorization: "Bearer wrong", "apollo-require-preflight": "1" };
  const told = (status: number, text: string) => `${status} ${JSON.parse(text).errors[0].extensions.code}`;
  const outcomes = { fetch: [] as string[], xhr: [] as string[] };
  for (let attempt = 0; attempt < attempts; attempt++) {
    outcomes.fetch.push(
      await fetch(endpoint, { method: "POST", headers, body: form() }).then(
        async (answer) => told(answer.status, await answer.text()),
        (error: unknown) => String(error),
      ),
    );
    outcomes.xhr.push(
      await new Promise((resolve) => {
        const request = new XMLHttpRequest();
        request.addEventListener("load", () => resolve(told(request.status, request.responseText)));
        request.addEventListener("error", () => resolve("error"));
        request.open("POST", endpoint);
        for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
        request.send(form());
      }),
    );
  }
  return outcomes;
}
