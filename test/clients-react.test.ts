/// <reference lib="dom" />
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { execFile } from "node:child_process";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { Pool } from "pg";
import type { Browser, Page } from "playwright-core";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { openBrowser } from "./support/browser.ts";
import { clientTools, needs } from "./support/needs.ts";
import { seedRecords } from "./support/seed-records.ts";
import { startService, type TestService } from "./support/service.ts";

const root = join(import.meta.dirname, "../..");
const tone = join(root, "examples/tone.wav");

needs("the client tools", () => {
  needs("Chromium", () => {
    describe("the examples in React", () => {
      let service: TestService;
      let browser: Browser;
      let pages: Server;
      let pagesUrl: string;

      beforeAll(async () => {
        service = await startService();
        browser = await openBrowser();
        pages = createServer((_request, response) =>
          response.setHeader("content-type", "text/html").end('<!doctype html><meta charset="utf-8"><div id="root">'),
        );
        await new Promise<void>((resolve) => pages.listen(0, "127.0.0.1", resolve));
        pagesUrl = `http://127.0.0.1:${(pages.address() as AddressInfo).port}`;
      });

      afterAll(async () => {
        await browser?.close();
        await service?.[Symbol.asyncDispose]();
        pages?.close();
      });

      /** Opens the app of an example on a page of its own. */
      async function open(script: string, token: string): Promise<Page> {
        const page = await browser.newPage();
        page.setDefaultTimeout(120_000); // against hanging only: a busy machine may need more than the usual 30 s
        await page.goto(pagesUrl);
        await page.evaluate((settings) => Object.assign(globalThis, settings), {
          endpoint: `${service.url}/graphql`,
          token,
        });
        await page.addScriptTag({ content: script });
        return page;
      }

      describe.each(["apollo.jsx", "urql.jsx"])("%s", (example) => {
        let script: string;
        let ann: Credentials;

        beforeAll(async () => {
          script = await bundle(example);
          ann = await new ApiClient(service.url).createUser("Ann");
          const pool = new Pool({ connectionString: service.databaseUrl });
          await seedRecords(pool, { ownerId: ann.id, count: 45 });
          await pool.end();
        });

        it("fetches page after page, and follows uploads and deletions", async () => {
          const page = await open(script, ann.token);
          const titles = page.locator("a");
          const heading = page.locator("h1");
          const more = page.getByText("More");
          const shows = async (total: number, onPage: number): Promise<void> => {
            await page.waitForFunction(
              ([total, onPage]) =>
                document.querySelector("h1")?.textContent === `${total} recordings` &&
                document.querySelectorAll("a").length === onPage,
              [total, onPage],
            );
          };
          await shows(45, 20);
          await more.click();
          await shows(45, 40);
          expect(new Set(await titles.allTextContents()).size).toBe(40);
          await more.click();
          await shows(45, 45);
          expect(await more.count()).toBe(0);

          await page.setInputFiles("input", tone);
          await page.getByText("tone", { exact: true }).waitFor();
          expect([await heading.textContent(), await titles.first().textContent()]).toEqual(["46 recordings", "tone"]);

          await page.getByText("Delete").first().click();
          await page.getByText("tone", { exact: true }).waitFor({ state: "detached" });
          await page.getByText("45 recordings").waitFor();
          expect(await titles.first().textContent()).toMatch(/ take 45$/);
          expect(await page.locator("[role=alert]").textContent()).toBe("");
          await page.close();
        });

        it("shows the code and the sentence of a refusal, and goes on", async () => {
          const page = await open(script, ann.token);
          await page.getByText("45 recordings").waitFor();
          await page.setInputFiles("input", { name: "a.wav", mimeType: "audio/wav", buffer: Buffer.from("no sound") });
          const alert = page.locator("[role=alert]");
          await page.waitForFunction(() => document.querySelector("[role=alert]")?.textContent !== "");
          expect(await alert.textContent()).toMatch(/^UNSUPPORTED_MEDIA The file is not a WAV\./);
          await page.setInputFiles("input", tone);
          await page.getByText("46 recordings").waitFor();
          expect(await alert.textContent()).toBe("");
          await page.close();
        });

        it("shows why the list cannot be read", async () => {
          const page = await open(script, "wrong");
          await page.locator("[role=alert]").waitFor();
          expect(await page.textContent("#root")).toBe(
            "UNAUTHENTICATED The token is unknown, revoked or expired. Use another one.",
          );
          await page.close();
        });
      });
    });
  });
});

/** The example with everything that it imports, as one script that shows its app. */
async function bundle(example: string): Promise<string> {
  const entry = `
    import { createRoot } from "react-dom/client";
    import { App, createClient } from "./${example}";
    createRoot(document.getElementById("root")).render(<App client={createClient(endpoint, token)} />);`;
  const esbuild = promisify(execFile)(
    join(clientTools, "node_modules/.bin/esbuild"),
    ["--bundle", "--loader=jsx", "--jsx=automatic", "--log-level=error", '--define:process.env.NODE_ENV="production"'],
    {
      cwd: join(root, "examples/react"),
      env: { ...process.env, NODE_PATH: join(clientTools, "node_modules") },
      maxBuffer: 64 * 2 ** 20,
    },
  );
  esbuild.child.stdin!.end(entry);
  return (await esbuild).stdout;
}
