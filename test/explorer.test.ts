/// <reference lib="dom" />
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { ApiClient } from "./support/api-client.ts";
import { openBrowser } from "./support/browser.ts";
import { needs } from "./support/needs.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

const html = { accept: "text/html" };

describe("the explorer that needs no internet", () => {
  let service: TestService;

  beforeAll(async () => {
    service = await startService();
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  it("loads its own files and nothing else", async () => {
    const page = await fetch(`${service.url}/explore`);
    expect(page.headers.get("content-security-policy")).toContain("default-src 'none';script-src 'self';");
    const text = await page.text();
    expect(text).toContain('<base href="/explore/">');
    const names = [...text.matchAll(/ (?:src|href)="([\w./-]+\.\w+)"/g)].map(([, name]) => name!);
    expect(names).toEqual(expect.arrayContaining(["main.js", "start.js", "styles.css", "favicon.ico"]));
    for (const name of names) {
      const file = await fetch(`${service.url}/explore/${name}`);
      await file.arrayBuffer();
      expect([name, file.status, file.headers.get("x-content-type-options")]).toEqual([name, 200, "nosniff"]);
      const again = await fetch(file.url, { headers: { "if-none-match": file.headers.get("etag")! } });
      expect([name, again.status]).toEqual([name, 304]);
    }
    const frame = await fetch(`${service.url}/explore/iframe-sandbox/index.html`);
    expect(frame.headers.get("content-security-policy")).toContain("sandbox allow-scripts");
  });

  it("serves no other file", async () => {
    for (const name of [
      "package.json",
      "../package.json",
      "%2e%2e/index.js",
      "..%2findex.js",
      "assets",
      "%00",
      "x.js",
    ]) {
      const { status } = await fetch(`${service.url}/explore/${name}`);
      expect([name, status]).toEqual([name, 404]);
    }
  });

  it("is there only where Sandbox is, under the path where a proxy has put the service", async () => {
    const env = { DATABASE_URL: service.databaseUrl };
    await using without = await startService({ ...env, SANDBOX: "false" });
    for (const path of ["/explore", "/explore/main.js"]) {
      expect((await fetch(without.url + path)).status).toBe(404);
    }
    await using named = await startService({ ...env, PUBLIC_URL: "https://a.example/music" });
    expect(await (await fetch(`${named.url}/explore`)).text()).toContain('<base href="/music/explore/">');
    expect(await (await fetch(`${named.url}/explore/start.js`)).text()).toContain("`/music/graphql`");
    const sandbox = await fetch(`${named.url}/graphql`, { headers: html });
    expect(await sandbox.text()).toContain('<a href="/music/explore">');
  });

  needs("Chromium", () => {
    it("is reached from Sandbox without internet, and uploads a file, without a complaint of the browser", async () => {
      await using browser = await openBrowser();
      const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
      await page.route(/^https:/, async (route) => await route.abort());
      await page.goto(`${service.url}/graphql`);
      const complaints: string[] = [];
      await page.click("text=No internet?");
      await page.waitForURL(`${service.url}/explore`);
      page.on("console", (message) => complaints.push(message.text()));
      page.on("request", (request) => {
        if (!request.url().startsWith(service.url)) complaints.push(request.url());
      });

      await page.click("text=(Send mutation CreateUser)");
      const result = page.locator("app-query-result");
      const token = await textIn(result, /[\da-f]{8}-[\da-f-]{27}/);
      await page.click('[title="Set Headers"], [track-id="show_set_headers"]');
      await page.locator(".ant-modal .cm-content", { hasText: "PASTE-THE-TOKEN" }).fill(`Bearer ${token}`);
      await page.click(".ant-modal >> text=Done");

      await page.click("text=VARIABLES");
      await page.click("text=Add files");
      const buffer = sineWav({ seconds: 0.5 });
      await page.setInputFiles('input[type="file"]', { name: "take.wav", mimeType: "audio/wav", buffer });
      await page.click("text=(Send mutation UploadRecord)");
      const streamUrl = await textIn(result, /http:[^"]*inline=1/);
      expect((await fetch(streamUrl, { method: "HEAD" })).headers.get("content-type")).toBe("audio/mpeg");
      const { data } = await new ApiClient(service.url).run(
        "{ me { records { nodes { title } } } }",
        {},
        { id: "", token },
      );
      expect(data.me.records.nodes).toEqual([{ title: "take" }]);
      expect(complaints).toEqual([]);
    });
  });
});

/** Waits until the text of an element has something of this form. */
async function textIn(element: import("playwright-core").Locator, form: RegExp): Promise<string> {
  await element.filter({ hasText: form }).waitFor();
  return form.exec((await element.textContent())!)![0];
}
