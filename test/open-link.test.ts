/// <reference lib="dom" />
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Browser, BrowserContext, Frame, Page } from "playwright-core";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { openBrowser } from "./support/browser.ts";
import { needs } from "./support/needs.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

describe("the link, opened in a browser", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;
  /** A server of another origin, which serves {@link foreignPage}. */
  let elsewhere: Server;
  let elsewhereUrl: string;
  let foreignPage: { html: string; headers: Record<string, string> };
  let id: string;
  let secret: string;

  beforeAll(async () => {
    elsewhere = createServer((_request, response) => {
      for (const [name, value] of Object.entries(foreignPage.headers)) response.setHeader(name, value);
      response.setHeader("content-type", "text/html").end(foreignPage.html);
    });
    await new Promise<void>((resolve) => elsewhere.listen(0, "127.0.0.1", resolve));
    elsewhereUrl = `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}/`;
    service = await startService();
    client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
    const wav = sineWav({ seconds: 20, channels: 1, sampleRateHz: 8000 });
    ({ id } = (await client.uploadRecord(ann, wav)).data.uploadRecord.record);
    const shared = await client.run(`mutation { createLink(recordId: "${id}") { link { url } } }`, {}, ann);
    secret = shared.data.createLink.link.url.split("/").at(-1);
  });

  afterAll(async () => {
    await service?.[Symbol.asyncDispose]();
    elsewhere?.close();
  });

  const forms = (): string[] => [
    `/record?id=${id}&user=${ann.id}&inline=1`,
    `/record?audio_id=${id}&user_id=${ann.id}&inline=1`,
    `/record/${id}/take.mp3?user=${ann.id}&inline=1`,
    `/record/${id}?user=${ann.id}&inline=1`,
    `/l/${secret}?inline=1`,
    `/l/${secret}/take.mp3?inline=1`,
  ];

  it("has the same policy in every response for its bytes, which allows no scripts", async () => {
    const link = service.url + forms()[0]!;
    const etag = (await fetch(link, { method: "HEAD" })).headers.get("etag")!;
    for (const [status, method, headers] of [
      [200, "GET", {}],
      [200, "HEAD", {}],
      [206, "GET", { range: "bytes=0-1" }],
      [206, "GET", { range: "bytes=0-99,9000-9099" }],
      [304, "GET", { "if-none-match": etag }],
    ] as const) {
      const answer = await fetch(link, { method, headers });
      await answer.arrayBuffer();
      expect(answer.status).toBe(status);
      expect(Object.fromEntries(answer.headers)).toMatchObject({
        "content-security-policy": "default-src 'none';media-src 'self';style-src 'unsafe-inline'",
        "cross-origin-embedder-policy": "require-corp",
        "cross-origin-resource-policy": "cross-origin",
        "x-content-type-options": "nosniff",
      });
      for (const name of ["x-frame-options", "cross-origin-opener-policy"]) {
        expect(answer.headers.get(name)).toBeNull();
      }
    }
    const refused = await fetch(link, { headers: { range: "bytes=99999999-" } });
    expect([refused.status, refused.headers.get("content-security-policy")]).toEqual([
      416,
      "default-src 'none';frame-ancestors 'none'",
    ]);
  });

  needs("Chromium", () => {
    let browser: Browser;
    let context: BrowserContext;

    beforeAll(async () => {
      browser = await openBrowser();
      context = await browser.newContext();
    });

    afterAll(async () => await browser?.close());

    async function openPage(): Promise<{ page: Page; complaints: string[] }> {
      const page = await context.newPage();
      const complaints: string[] = [];
      page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
      return { page, complaints };
    }

    it("plays as the address of a tab, in each of its forms, and from the tab's cache", async () => {
      for (const form of forms()) {
        const { page, complaints } = await openPage();
        for (const visit of form === forms()[0] ? ["first", "second"] : ["first"]) {
          await page.goto(service.url + form);
          expect([form, visit, await playsInDocument(page.mainFrame())]).toEqual([form, visit, true]);
        }
        expect(complaints.filter((text) => !text.includes("favicon"))).toEqual([]);
        await page.close();
      }
    });

    it.each([
      ["asks for nothing", {}],
      ["isolates itself", isolated("require-corp")],
      ["isolates itself by leaving out credentials", isolated("credentialless")],
      ["is in a sandbox", { "content-security-policy": "sandbox allow-scripts" }],
    ] as const)("plays in whatever embeds it, on a page of another origin that %s", async (_what, headers) => {
      const link = `${service.url}/l/${secret}/take.mp3?inline=1`;
      const frames = [
        `<iframe src='${link}'></iframe>`,
        `<iframe sandbox='allow-scripts' src='${link}'></iframe>`,
        `<iframe sandbox='allow-scripts allow-same-origin' src='${link}'></iframe>`,
        `<object data='${link}'></object>`,
        `<object type='audio/mpeg' data='${link}'></object>`,
        `<embed src='${link}'>`,
        `<embed type='audio/mpeg' src='${link}'>`,
      ];
      const players = [`<audio src='${link}'></audio>`, `<video crossorigin src='${link}'></video>`];
      foreignPage = { html: `<!doctype html>${frames.join("")}${players.join("")}`, headers };
      const { page, complaints } = await openPage();
      await page.goto(elsewhereUrl);
      const opened = page.frames().filter((frame) => frame.url() === link);
      expect(opened.length).toEqual(frames.length);
      const played = await Promise.all([...opened, page.mainFrame()].map(playsInDocument));
      expect(played).toEqual([...frames, "the page itself"].map(() => true));
      expect(complaints).toEqual([]);
      await page.close();
    });

    it("plays in a tab that a sandboxed frame opens", async () => {
      const link = `${service.url}/record?id=${id}&user=${ann.id}&inline=1`;
      const inner = `<a href=&quot;${link.replaceAll("&", "&amp;amp;")}&quot; target=_blank>the recording</a>`;
      foreignPage = {
        html: `<!doctype html><iframe sandbox="allow-scripts allow-popups" srcdoc="${inner}">`,
        headers: {},
      };
      const { page } = await openPage();
      await page.goto(elsewhereUrl);
      const [tab] = await Promise.all([context.waitForEvent("page"), page.frames()[1]!.click("text=the recording")]);
      await tab.waitForLoadState();
      expect([tab.url(), await playsInDocument(tab.mainFrame())]).toEqual([link, true]);
      await Promise.all([tab.close(), page.close()]);
    });
  });
});

function isolated(embedderPolicy: string): Record<string, string> {
  return { "cross-origin-embedder-policy": embedderPolicy, "cross-origin-opener-policy": "same-origin" };
}

/** Whether every player of a document plays, including the one that a browser creates for an MP3. */
async function playsInDocument(frame: Frame): Promise<boolean> {
  return await frame.evaluate(async () => {
    const players = [...document.querySelectorAll<HTMLMediaElement>("video, audio")];
    const playing = players.map(async (player) => {
      player.muted = true;
      player.play().catch(() => {});
      return await new Promise<boolean>((resolve) => {
        const look = () => player.currentTime > 0 && resolve(true);
        player.addEventListener("timeupdate", look);
        for (const source of [player, ...player.children]) source.addEventListener("error", () => resolve(false));
        if (player.error || player.networkState === HTMLMediaElement.NETWORK_NO_SOURCE) resolve(false);
        look();
      });
    });
    return players.length > 0 && (await Promise.all(playing)).every(Boolean);
  });
}
