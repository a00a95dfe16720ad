/// <reference lib="dom" />
import { createRequire } from "node:module";
import { readFile } from "node:fs/promises";
import type { BrowserContext, BrowserContextOptions, Browser, Locator, Page } from "playwright-core";
import { chromium } from "playwright-core";
import type { Credentials } from "./api-client.ts";
import { chromiumArguments, findChromium } from "./browser.ts";
import { sineWav } from "./wav-maker.ts";

/** Limits only against hanging. */
const timeout = 120_000;

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
    timeout,
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
  const context = await chromium.launchPersistentContext(folder, {
    executablePath: findChromium()!,
    timeout,
    args: [...chromiumArguments, ...microphoneArguments(wavPath)],
  });
  context.setDefaultTimeout(timeout);
  const closed = new Promise((resolve) => void context.once("close", resolve));
  const session = await context.browser()!.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  // The browser is the leader of a process group, in which all its processes are.
  const group = processInfo.find(({ type }) => type === "browser")!.id;
  let killed = false;
  const kill = async (): Promise<void> => {
    if (!killed) process.kill(-group, "SIGKILL");
    killed = true;
    await closed;
  };
  return { page: await context.newPage(), kill, [Symbol.asyncDispose]: kill };
}

/** Opens the page in a context of its own, as a new visitor does. */
export async function openPage(
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {},
): Promise<OpenedPage> {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(timeout);
  const page = await context.newPage();
  const complaints = listen(page, url);
  await page.goto(url);
  return { page, context, complaints, [Symbol.asyncDispose]: async () => await context.close() };
}

/** Collects what a page must not do. */
export function listen(page: Page, url: string): string[] {
  const { origin } = new URL(url);
  const complaints: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    const address = request.url();
    if (!address.startsWith(origin) && !address.startsWith("blob:") && !address.startsWith("data:"))
      complaints.push(address);
  });
  return complaints;
}

/** A WAV as a file that a person chooses. */
export function wavFile(name: string, buffer = tone(1)): { name: string; mimeType: string; buffer: Buffer } {
  return { name, mimeType: "audio/wav", buffer };
}

/** A short tone of 440 Hz in a small file. */
export function tone(seconds: number, amplitude = 0.2): Buffer {
  return sineWav({ seconds, sampleRateHz: 8000, channels: 1, amplitude });
}

/** Chooses files in the file dialog of the page. */
export async function choose(page: Page, files: readonly ReturnType<typeof wavFile>[]): Promise<void> {
  await page.locator("input[type=file]").first().setInputFiles(files);
}

/** Resolves when so many files of the queue are stored. */
export async function stored(page: Page, count = 1): Promise<void> {
  await page
    .locator(".queue-row.stored")
    .nth(count - 1)
    .waitFor();
}

/** Resolves when a short message is shown. */
export async function notice(page: Page, text: string): Promise<void> {
  await page.locator(".notice", { hasText: text }).waitFor();
}

/** A button by its whole name. */
export function button(page: Page, name: string): Locator {
  return page.getByRole("button", { name, exact: true });
}

/** The user that the page has made. */
export async function userOf(page: Page): Promise<Credentials> {
  return await page.evaluate(() => JSON.parse(localStorage.getItem("web-user-music.account")!));
}

/** Opens the page as a new visitor who sends a file each with these names, and tidies up. */
export async function visitorWith(browser: Browser, url: string, ...names: string[]): Promise<OpenedPage> {
  const opened = await openPage(browser, url);
  await choose(
    opened.page,
    names.map((name) => wavFile(name)),
  );
  await stored(opened.page, names.length);
  await button(opened.page, "Clear the list").click();
  return opened;
}

/** Resolves when the clock of the recorder has reached so many seconds. */
export async function recorded(page: Page, seconds: number): Promise<void> {
  await page.waitForFunction((wanted) => {
    const [minutes, rest] = document.querySelector(".clock")!.textContent.split(":").map(Number);
    return minutes! * 60 + rest! >= wanted;
  }, seconds);
}

/** Makes the worker that stores takes run a script before its own, once the page is loaded again. */
export async function runInTakeWorker(page: Page, script: string): Promise<void> {
  await page.route("**/take.worker*.js", async (route) => {
    const body = await (await fetch(route.request().url())).text();
    // The page may be closed by now.
    await route.fulfill({ contentType: "text/javascript", body: `${script}\n${body}` }).catch(() => {});
  });
}

/** Counts beside the recorder's own code. */
export interface Counter {
  /** The frames that the audio thread has sent to be stored. */
  readonly frames: () => Promise<number>;
  /** What the clock of the sound device has counted since the recorder began, in seconds. */
  readonly clock: () => Promise<number>;
}

/** Counts the frames of the takes that follow. It loads the page again. */
export async function countFrames(page: Page): Promise<Counter> {
  const counter = `{
    const told = new BroadcastChannel("counted");
    let bytes = 0;
    addEventListener("message", ({ data }) => data.source?.addEventListener("message", (block) => {
      bytes += block.data.pcm.byteLength;
      told.postMessage(bytes / 2 / data.channels);
    }));
  }`;
  await runInTakeWorker(page, counter);
  await page.addInitScript(() => {
    const held = globalThis as { counted?: number; context?: AudioContext };
    new BroadcastChannel("counted").addEventListener("message", ({ data }) => (held.counted = data));
    globalThis.AudioContext = class extends AudioContext {
      constructor() {
        super();
        held.context = this;
      }
    };
  });
  await page.reload();
  return {
    frames: async () => await page.evaluate(() => (globalThis as unknown as { counted: number }).counted),
    clock: async () =>
      await page.evaluate(() => (globalThis as unknown as { context: AudioContext }).context.currentTime),
  };
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
