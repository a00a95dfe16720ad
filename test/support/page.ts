/// <reference lib="dom" />
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import { readFile } from "node:fs/promises";
import type { BrowserContext, BrowserContextOptions, Browser, Page } from "playwright-core";
import { chromium } from "playwright-core";
import { chromiumArguments, findChromium } from "./browser.ts";

/** The web page in a browser, and everything that it must not do. */
export interface OpenedPage extends AsyncDisposable {
  readonly page: Page;
  readonly context: BrowserContext;
  /** Violations of the policy, errors in the console, and requests to other hosts, as they happen. */
  readonly complaints: string[];
}

/** A Chromium whose microphone plays a WAV, over and over. Without one, it has no microphone at all. */
export async function openBrowserWithMicrophone(wavPath?: string, options: string[] = []): Promise<Browser> {
  return await chromium.launch({
    executablePath: findChromium()!,
    args: [...chromiumArguments, ...(wavPath === undefined ? [] : microphoneArguments(wavPath)), ...options],
  });
}

/** What makes Chromium take a WAV for the sound of a microphone. */
export function microphoneArguments(wavPath: string): string[] {
  return [
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    `--use-file-for-fake-audio-capture=${wavPath}`,
  ];
}

/** A Chromium that keeps what its pages store in a folder, and that can be killed. */
export interface KillableBrowser extends AsyncDisposable {
  readonly page: Page;
  /** Ends all its processes at once, as `kill -9` does. */
  readonly kill: () => Promise<void>;
}

/** Starts a Chromium on a folder, with a WAV as its microphone. */
export async function openKillableBrowser(folder: string, wavPath: string): Promise<KillableBrowser> {
  const chromiumProcess = spawn(
    findChromium()!,
    [
      ...chromiumArguments,
      ...microphoneArguments(wavPath),
      "--headless",
      "--remote-debugging-port=0",
      `--user-data-dir=${folder}`,
    ],
    { detached: true, stdio: ["ignore", "ignore", "pipe"] },
  );
  const closed = once(chromiumProcess, "close");
  const kill = async (): Promise<void> => {
    if (chromiumProcess.exitCode === null && chromiumProcess.signalCode === null)
      process.kill(-chromiumProcess.pid!, "SIGKILL");
    await closed;
  };
  let told = "";
  for await (const piece of chromiumProcess.stderr) {
    told += String(piece);
    const address = /ws:\/\/\S+/.exec(told)?.[0];
    if (address === undefined) continue;
    const browser = await chromium.connectOverCDP(address);
    const [context] = browser.contexts();
    context!.setDefaultTimeout(20_000);
    return { page: await context!.newPage(), kill, [Symbol.asyncDispose]: kill };
  }
  throw new Error(`Chromium did not start: ${told}`);
}

/** Opens the page in a context of its own, as a new visitor does. */
export async function openPage(
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {},
): Promise<OpenedPage> {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(20_000);
  const page = await context.newPage();
  const complaints = listen(page, url);
  await page.goto(url);
  return { page, context, complaints, [Symbol.asyncDispose]: async () => await context.close() };
}

/** Collects what a page must not do. */
export function listen(page: Page, url: string): string[] {
  const complaints: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    const address = request.url();
    if (!address.startsWith(url) && !address.startsWith("blob:") && !address.startsWith("data:"))
      complaints.push(address);
  });
  return complaints;
}

/** The faults that axe-core finds in the page as it is now. */
export async function accessibilityFaults(page: Page): Promise<string[]> {
  const path = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
  await page.evaluate(await readFile(path, "utf8"));
  return await page.evaluate(async () => {
    const { axe } = globalThis as unknown as { axe: { run: (options: object) => Promise<{ violations: any[] }> } };
    const { violations } = await axe.run({ resultTypes: ["violations"] });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }: { html: string }) => html).join(" ")}`);
  });
}
