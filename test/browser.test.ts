/// <reference lib="dom" />
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Browser, Page } from "playwright-core";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { openBrowser } from "./support/browser.ts";
import { exampleDocument, exampleHeaders } from "../src/graphql/example-document.ts";
import { needs } from "./support/needs.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav, sineWavStream } from "./support/wav-maker.ts";

describe("a browser", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;
  /** Serves a page of another origin, as apps do that embed a link. */
  let elsewhere: Server;
  let elsewhereUrl: string;

  beforeAll(async () => {
    elsewhere = createServer((_request, response) =>
      response.setHeader("content-type", "text/html").end("<!doctype html>"),
    );
    await new Promise<void>((resolve) => elsewhere.listen(0, "127.0.0.1", resolve));
    elsewhereUrl = `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}/`;
    service = await startService({ CORS_ORIGINS: elsewhereUrl.slice(0, -1) });
    client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
  });

  afterAll(async () => {
    await service?.[Symbol.asyncDispose]();
    elsewhere?.close();
  });

  it("gets Apollo Sandbox with the preflight header and an example", async () => {
    const response = await fetch(`${service.url}/graphql`, { headers: { accept: "text/html" } });
    expect(response.headers.get("content-type")).toContain("text/html");
    expect(response.headers.get("content-security-policy")).toContain("frame-src https://*.apollographql.com");
    const html = await response.text();
    expect(html).toContain("apollo-require-preflight");
    expect(html).toContain("UploadRecord");
    expect(html).toContain("PASTE-THE-TOKEN");
  });

  it("gets an example that runs from its first step to its last, with a retry", async () => {
    const run = async (operationName: string, token = exampleHeaders.authorization, file?: Buffer) => {
      const operation = { query: exampleDocument, operationName, ...(file && { variables: { file: null } }) };
      const form = new FormData();
      form.set("operations", JSON.stringify(operation));
      form.set("map", JSON.stringify({ 0: ["variables.file"] }));
      if (file) form.set("0", new Blob([new Uint8Array(file)]), "take.wav");
      const headers = { authorization: token, "apollo-require-preflight": "true" };
      const json = { ...headers, "content-type": "application/json" };
      const body = file ? { headers, body: form } : { headers: json, body: JSON.stringify(operation) };
      const response = await fetch(`${service.url}/graphql`, { method: "POST", ...body });
      return (await response.json()).data;
    };
    const { createUser } = await run("CreateUser");
    const token = `Bearer ${createUser.token}`;
    const wav = sineWav({ seconds: 0.5 });
    const { record } = (await run("UploadRecord", token, wav)).uploadRecord;
    expect((await fetch(record.streamUrl, { method: "HEAD" })).status).toBe(200);
    const first = (await run("UploadWithRetry", token, wav)).uploadRecord;
    expect(first.created).toBe(true);
    expect((await run("UploadWithRetry", token, wav)).uploadRecord).toEqual({ ...first, created: false });
    expect((await run("Me", token)).me).toMatchObject({ id: createUser.user.id, records: { totalCount: 2 } });
  });

  needs("Chromium", () => {
    let browser: Browser;

    beforeAll(async () => void (browser = await openBrowser()));

    afterAll(async () => await browser?.close());

    async function openPage(): Promise<Page> {
      const page = await browser.newPage();
      await page.goto(elsewhereUrl);
      return page;
    }

    it("plays the link, knows the duration before the end is loaded, and seeks with small ranges", async () => {
      const seconds = 1800;
      const pieces: Buffer[] = [];
      for await (const piece of sineWavStream({ seconds, channels: 1, sampleRateHz: 8000 })) pieces.push(piece);
      const { data } = await client.uploadRecord(ann, new Blob(pieces as BlobPart[]), {
        fields: "streamUrl sizeBytes",
        args: ", quality: HIGH",
      });
      const { streamUrl, sizeBytes } = data.uploadRecord.record;

      const page = await openPage();
      const starts: number[] = [];
      page.on("response", (response) => {
        const start = /^bytes (\d+)-/.exec(response.headers()["content-range"] ?? "")?.[1];
        if (start !== undefined) starts.push(Number(start));
      });
      const duration = await page.evaluate(async (src) => {
        const audio = document.createElement("audio");
        audio.preload = "metadata";
        audio.src = src;
        document.body.append(audio);
        await new Promise((resolve, reject) => {
          audio.addEventListener("loadedmetadata", resolve);
          audio.addEventListener("error", () => reject(new Error(audio.error?.message)));
        });
        return audio.duration;
      }, streamUrl);
      // A player counts whole MP3 frames, of 72 ms here, including the encoder's delay and padding.
      expect(Math.abs(duration - seconds)).toBeLessThan(0.25);

      const position = await page.evaluate(async () => {
        const audio = document.querySelector("audio")!;
        audio.currentTime = 900;
        await new Promise((resolve) => audio.addEventListener("seeked", resolve, { once: true }));
        audio.muted = true;
        await audio.play();
        await new Promise<void>((resolve) => {
          audio.addEventListener("timeupdate", () => audio.currentTime > 900.2 && resolve());
        });
        const reached = audio.currentTime;
        audio.pause();
        audio.removeAttribute("src");
        audio.load();
        return reached;
      });
      expect(position).toBeGreaterThan(900);
      expect(position).toBeLessThan(910);
      // It did not read up to there: it requested bytes from beyond the first third of the file.
      expect(Math.max(...starts)).toBeGreaterThan(sizeBytes / 3);
      await page.close();
    });

    it.each([
      [44_100, 2],
      [48_000, 1],
      [22_050, 1],
    ])("decodes exactly the recording's samples at %d Hz with %d channels", async (sampleRateHz, channels) => {
      const seconds = 1.2345;
      const { data } = await client.uploadRecord(ann, sineWav({ seconds, sampleRateHz, channels, amplitude: 0.5 }), {
        fields: "url",
      });
      const page = await openPage();
      const decoded = await page.evaluate(
        async ({ url, rate }) => {
          const bytes = await (await fetch(url)).arrayBuffer();
          const buffer = await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes);
          return { length: buffer.length, channels: buffer.numberOfChannels };
        },
        { url: data.uploadRecord.record.url, rate: sampleRateHz },
      );
      expect(decoded).toEqual({ length: Math.round(seconds * sampleRateHz), channels });
      await page.close();
    });

    it("downloads a clicked link under the right name, also after it was renamed", async () => {
      const { data } = await client.uploadRecord(ann, sineWav({ seconds: 0.5 }), {
        fileName: "Lied für Ann 王.wav",
        fields: "id url sizeBytes",
      });
      const { id, url, sizeBytes } = data.uploadRecord.record;
      const page = await openPage();
      await page.evaluate((href) => {
        const link = document.createElement("a");
        link.href = href;
        link.textContent = "the recording";
        document.body.append(link);
      }, url);
      const [download] = await Promise.all([page.waitForEvent("download"), page.click("text=the recording")]);
      expect(download.suggestedFilename()).toBe("Lied für Ann 王.mp3");
      expect((await readFile(await download.path())).length).toBe(sizeBytes);

      const rename = "mutation ($id: ID!, $title: String) { updateRecord(id: $id, title: $title) { record { id } } }";
      await client.run(rename, { id, title: "Dr. Who" }, ann);
      const [again] = await Promise.all([page.waitForEvent("download"), page.click("text=the recording")]);
      expect(again.suggestedFilename()).toBe("Dr. Who.mp3");
      expect((await readFile(await again.path())).length).toBe(sizeBytes);
      await page.close();
    });

    it("uploads from a page of an allowed origin with nothing but fetch", async () => {
      const page = await openPage();
      const wav = [...sineWav({ seconds: 0.2, channels: 1, sampleRateHz: 8000 })];
      const answer = await page.evaluate(
        async ({ endpoint, token, bytes }) => {
          const query = "mutation ($file: Upload!) { uploadRecord(file: $file) { record { title } } }";
          const form = new FormData();
          form.set("operations", JSON.stringify({ query, variables: { file: null } }));
          form.set("map", JSON.stringify({ 0: ["variables.file"] }));
          form.set("0", new File([new Uint8Array(bytes)], "from a page.wav"));
          const response = await fetch(endpoint, {
            method: "POST",
            headers: { authorization: `Bearer ${token}`, "apollo-require-preflight": "true" },
            body: form,
          });
          return (await response.json()) as unknown;
        },
        { endpoint: `${service.url}/graphql`, token: ann.token, bytes: wav },
      );
      expect(answer).toEqual({ data: { uploadRecord: { record: { title: "from a page" } } } });
      await page.close();
    });
  });
});
