/// <reference lib="dom" />
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { fastify } from "fastify";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { Writable } from "node:stream";
import { pathToFileURL } from "node:url";
import type { Browser, Page } from "playwright-core";
import { allowOtherOrigins } from "../src/http/cross-origin.ts";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { openBrowser } from "./support/browser.ts";
import { needs } from "./support/needs.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

const progressPage = join(import.meta.dirname, "../../examples/progress.html");

describe("a page of another origin", () => {
  let pages: Server;
  let pagesPort: number;
  let service: TestService;
  let ann: Credentials;

  beforeAll(async () => {
    pages = createServer((_request, response) =>
      response.setHeader("content-type", "text/html").end("<!doctype html>"),
    );
    await new Promise<void>((resolve) => pages.listen(0, resolve));
    pagesPort = (pages.address() as AddressInfo).port;
    service = await startService();
    ann = await new ApiClient(service.url).createUser("Ann");
  });

  afterAll(async () => {
    await service?.[Symbol.asyncDispose]();
    pages?.close();
  });

  describe("is told", () => {
    const origin = "http://localhost:5173";
    const json = { "content-type": "application/json" };
    const form = { "content-type": "multipart/form-data; boundary=x", "apollo-require-preflight": "1" };

    async function send(path: string, method: string, headers: Record<string, string>, body?: BodyInit) {
      return await fetch(service.url + path, { method, headers: { origin, ...headers }, ...(body && { body }) });
    }

    it("in the preflight, which headers and methods it may send, and how long that is valid", async () => {
      const { status, headers } = await send("/graphql", "OPTIONS", {
        "access-control-request-method": "POST",
        "access-control-request-headers": "apollo-require-preflight,authorization,content-type,x-app-version",
      });
      expect(status).toBe(204);
      expect(Object.fromEntries(headers)).toMatchObject({
        "access-control-allow-origin": origin,
        "access-control-allow-methods": "GET, HEAD, POST, PATCH, DELETE",
        "access-control-allow-headers": "apollo-require-preflight,authorization,content-type,x-app-version",
        "access-control-max-age": "86400",
        vary: "Origin, Access-Control-Request-Headers",
      });
      expect(headers.has("access-control-allow-credentials")).toBe(false);
    });

    it("in the preflight, that it may call a service in its own network", async () => {
      const { headers } = await send("/graphql", "OPTIONS", {
        "access-control-request-method": "POST",
        "access-control-request-private-network": "true",
      });
      expect(headers.get("access-control-allow-private-network")).toBe("true");
    });

    it.each<[number, string, string, string, Record<string, string>, BodyInit | undefined]>([
      [200, "an answer", "/graphql", "POST", json, '{"query":"{ __typename }"}'],
      [
        200,
        "an answer to GET",
        "/graphql?query=%7B__typename%7D",
        "GET",
        { "apollo-require-preflight": "1" },
        undefined,
      ],
      [401, "a wrong token", "/graphql", "POST", { ...json, authorization: "Bearer x" }, '{"query":"{ me { id } }"}'],
      [401, "a wrong token with a file", "/graphql", "POST", { authorization: "Bearer x" }, uploadForm()],
      [400, "a broken form", "/graphql", "POST", form, "--y--"],
      [400, "a body that is not JSON", "/graphql", "POST", json, "{"],
      [413, "a body that is too large", "/graphql", "POST", json, " ".repeat(2_000_000)],
      [415, "a type that is not served", "/graphql", "POST", { "content-type": "text/csv" }, "a,b"],
      [404, "an unknown address", "/api/graphql", "POST", json, "{}"],
      [405, "a method that is not served", "/graphql", "PUT", json, "{}"],
    ])("that it may read %d for %s", async (expected, _what, path, method, headers, body) => {
      const answer = await send(path, method, headers, body);
      await answer.body?.cancel();
      expect(answer.status).toBe(expected);
      expect(answer.headers.get("access-control-allow-origin")).toBe(origin);
      const exposed = answer.headers.get("access-control-expose-headers");
      expect(exposed).toMatch(/^Retry-After, X-Request-Id, Location, Upload-Offset, .*Tus-Max-Size$/);
      expect(answer.headers.get("vary")).toContain("Origin");
    });

    it.each(["GET", "OPTIONS"])("nothing if it is not allowed to ask, for %s", async (method) => {
      const headers = { origin: "https://stranger.example", "access-control-request-method": "POST" };
      const answer = await fetch(`${service.url}/graphql`, { method, headers });
      await answer.body?.cancel();
      expect(answer.headers.get("vary")).toContain("Origin");
      expect([...answer.headers.keys()].filter((name) => name.startsWith("access-control-allow-"))).toEqual([]);
    });

    it("by links, whatever its origin, that it may read them with any header", async () => {
      const client = new ApiClient(service.url);
      const { data } = await client.uploadRecord(ann, sineWav({ seconds: 0.1 }));
      const { pathname, search } = new URL(data.uploadRecord.record.url);
      for (const path of [
        pathname + search,
        `/record/${data.uploadRecord.record.id}/waveform.json${search}`,
        "/l/none",
      ]) {
        const preflight = await send(path, "OPTIONS", {
          "access-control-request-method": "GET",
          "access-control-request-headers": "authorization,range,x-app-version",
        });
        expect(preflight.headers.get("access-control-allow-headers")).toMatch(/^\*, Authorization, Range, /);
        for (const headers of [preflight.headers, (await send(path, "HEAD", {})).headers]) {
          expect(headers.get("access-control-allow-origin")).toBe("*");
          expect(headers.get("vary") ?? "").not.toContain("Origin");
          const exposed = headers.get("access-control-expose-headers")!.split(", ");
          expect(exposed).toEqual(
            expect.arrayContaining(["Accept-Ranges", "Content-Disposition", "Content-Range", "ETag", "Retry-After"]),
          );
        }
      }
    });
  });

  needs("Chromium", () => {
    let browser: Browser;
    beforeAll(async () => void (browser = await openBrowser()));
    afterAll(async () => await browser?.close());

    async function openPage(url: string): Promise<Page> {
      const page = await browser.newPage();
      await page.goto(url);
      return page;
    }

    it.each(["127.0.0.1", "localhost", "app.localhost"])(
      "on this machine at %s uploads with fetch and with XMLHttpRequest, outside production",
      async (host) => {
        const page = await openPage(`http://${host}:${pagesPort}/`);
        const wav = [...sineWav({ seconds: 0.1, channels: 1, sampleRateHz: 8000 })];
        const options = { endpoint: `${service.url}/graphql`, token: ann.token, wav };
        expect(await page.evaluate(uploadFromPage, options)).toEqual({ fetch: "take", xhr: "take" });
        await page.close();
      },
    );

    it("that is opened from disk, like the example, uploads and plays outside production", async () => {
      const page = await openPage(pathToFileURL(progressPage).href);
      await page.fill("[name=endpoint]", `${service.url}/graphql`);
      await page.fill("[name=token]", ann.token);
      const buffer = sineWav({ seconds: 1 });
      await page.setInputFiles("[name=file]", { name: "from a file.wav", mimeType: "audio/wav", buffer });
      await page.click("button");
      await page.waitForSelector("output a");
      expect(await page.textContent("output a")).toBe("from a file");
      await page.waitForFunction(() => (document.querySelector("audio")?.duration ?? 0) > 0.9);
      await page.close();
    });

    it("may do nothing in production unless its origin is listed", async () => {
      for (const [origins, seen] of [
        ["", "TypeError: Failed to fetch"],
        [`https://*.example.com, http://*.localhost:${pagesPort}`, "200"],
        ["*", "200"],
      ] as const) {
        await using strict = await startService({ NODE_ENV: "production", CORS_ORIGINS: origins });
        const page = await openPage(`http://app.localhost:${pagesPort}/`);
        expect(await page.evaluate(createUserFromPage, `${strict.url}/graphql`)).toMatchObject({ status: seen });
        await page.close();
      }
    });

    it("can read from a refusal when to retry, and the request's id", async () => {
      await using strict = await startService({ MAX_NEW_USERS_PER_HOUR: "1" });
      const page = await openPage(`http://localhost:${pagesPort}/`);
      expect(await page.evaluate(createUserFromPage, `${strict.url}/graphql`)).toMatchObject({ status: "200" });
      expect(await page.evaluate(createUserFromPage, `${strict.url}/graphql`)).toEqual({
        status: "429",
        code: "RATE_LIMITED",
        retryAfter: expect.stringMatching(/^\d+$/),
        requestId: expect.stringMatching(/^[\da-f-]{36}$/),
      });
      await page.close();
    });
  });
});

describe("the log", () => {
  it("names each refused origin once, with the setting, and no more than a hundred of them", async () => {
    const lines: { level: number; msg: string; origin?: string }[] = [];
    const sink = new Writable({ write: (line, _encoding, done) => (lines.push(JSON.parse(String(line))), done()) });
    const app = fastify({ logger: { stream: sink } });
    await allowOtherOrigins(app, { corsOrigins: ["https://app.example.com"], production: true });
    app.get("/", async () => "ok");
    const ask = async (headers: Record<string, string>) => await app.inject({ url: "/", headers });

    for (let times = 0; times < 3; times++) await ask({ origin: "http://localhost:5173" });
    await ask({ origin: "https://app.example.com" });
    await ask({ origin: "https://music.example.com", host: "music.example.com" });
    await ask({ origin: "https://music.example.com", host: "upstream", "sec-fetch-site": "same-origin" });
    const warnings = () => lines.filter(({ level }) => level === 40);
    expect(warnings()).toMatchObject([
      { origin: "http://localhost:5173", msg: expect.stringContaining("CORS_ORIGINS") },
    ]);

    for (let number = 0; number < 150; number++) await ask({ origin: `https://${"x".repeat(1000)}${number}.example` });
    expect(warnings()).toHaveLength(100);
    expect(Math.max(...warnings().map(({ origin }) => origin!.length))).toBe(200);
    await app.close();
  });
});

/** An upload as `fetch` sends it. */
function uploadForm(): FormData {
  const form = new FormData();
  const query = "mutation ($file: Upload!) { uploadRecord(file: $file) { created } }";
  form.set("operations", JSON.stringify({ query, variables: { file: null } }));
  form.set("map", JSON.stringify({ 0: ["variables.file"] }));
  form.set("0", new Blob(["x"]), "take.wav");
  return form;
}

/** Runs in the page: uploads a file in each way, and returns the titles or the errors. */
async function uploadFromPage({ endpoint, token, wav }: { endpoint: string; token: string; wav: number[] }) {
  const form = () => {
    const data = new FormData();
    const query = "mutation ($file: Upload!) { uploadRecord(file: $file) { record { title } } }";
    data.set("operations", JSON.stringify({ query, variables: { file: null } }));
    data.set("map", JSON.stringify({ 0: ["variables.file"] }));
    data.set("0", new File([new Uint8Array(wav)], "take.wav"));
    return data;
  };
  const headers = { authorization: `Bearer ${token}`, "apollo-require-preflight": "true", "x-app-version": "1" };
  const titleIn = (text: string) => JSON.parse(text).data.uploadRecord.record.title as string;
  return {
    fetch: await fetch(endpoint, { method: "POST", headers, body: form() }).then(
      async (answer) => titleIn(await answer.text()),
      (error: unknown) => String(error),
    ),
    xhr: await new Promise<string>((resolve) => {
      const request = new XMLHttpRequest();
      request.upload.addEventListener("progress", () => {});
      request.addEventListener("load", () => resolve(titleIn(request.responseText)));
      request.addEventListener("error", () => resolve("error"));
      request.open("POST", endpoint);
      for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
      request.send(form());
    }),
  };
}

/** Runs in the page. */
async function createUserFromPage(endpoint: string) {
  const query = 'mutation { createUser(name: "Bob") { token } }';
  const headers = { "content-type": "application/json" };
  try {
    const answer = await fetch(endpoint, { method: "POST", headers, body: JSON.stringify({ query }) });
    return {
      status: String(answer.status),
      code: (await answer.json()).errors?.[0].extensions.code as string | undefined,
      retryAfter: answer.headers.get("retry-after"),
      requestId: answer.headers.get("x-request-id"),
    };
  } catch (error) {
    return { status: String(error) };
  }
}
