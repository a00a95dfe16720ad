/// <reference lib="dom" />
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, BrowserContext, Page, Route } from "playwright-core";
import { ApiClient } from "./support/api-client.ts";
import { needs } from "./support/needs.ts";
import {
  accessibilityFaults,
  button,
  choose,
  notice,
  openBrowserWithMicrophone,
  openPage,
  recorded,
  runInTakeWorker,
  stored,
  tone,
  userOf,
  visitorWith,
  wavFile,
} from "./support/page.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

/** What a test has taken hold of in the page. */
interface Held {
  microphone: MediaStreamTrack;
  context: AudioContext;
}

describe("the page on a bad day", () => {
  needs("Chromium", () => {
    let service: TestService;
    let client: ApiClient;
    let browser: Browser;
    let folder: string;

    beforeAll(async () => {
      service = await startService();
      client = new ApiClient(service.url);
      folder = await mkdtemp(join(tmpdir(), "page-test-"));
      const microphone = join(folder, "tone.wav");
      await writeFile(microphone, sineWav({ seconds: 30, sampleRateHz: 44_100, channels: 1, amplitude: 0.25 }));
      browser = await openBrowserWithMicrophone(microphone);
    });

    afterAll(async () => {
      await browser?.close();
      await service?.[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    });

    /** Keeps the next upload from being answered. Resolves with it when it has come. */
    async function holdUpload(page: Page): Promise<{ held: Promise<Route> }> {
      let isFree = false;
      const held = Promise.withResolvers<Route>();
      await page.route("**/uploads/*", async (route) => {
        // A take that travels states no length.
        if (isFree || route.request().headers()["upload-length"] === undefined) return await route.continue();
        isFree = true;
        held.resolve(route);
      });
      return { held: held.promise };
    }

    /** A second tab of the same browser, once it waits for what the first one has. */
    async function secondTab(context: BrowserContext): Promise<Page> {
      const page = await context.newPage();
      await page.goto(service.url);
      await page.waitForFunction(async () => ((await navigator.locks.query()).pending ?? []).length > 0);
      return page;
    }

    /** Opens the page so that a test can do to the microphone what a system does. */
    async function openWithHold(): Promise<Awaited<ReturnType<typeof openPage>>> {
      const opened = await openPage(browser, service.url);
      await opened.page.addInitScript(() => {
        const held = globalThis as unknown as Held;
        const devices = navigator.mediaDevices;
        const open = devices.getUserMedia.bind(devices);
        devices.getUserMedia = async (constraints) => {
          const stream = await open(constraints);
          held.microphone = stream.getAudioTracks()[0]!;
          return stream;
        };
        globalThis.AudioContext = class extends AudioContext {
          constructor() {
            super();
            held.context = this;
          }
        };
      });
      await opened.page.reload();
      return opened;
    }

    it("sends a file from one tab only, and from another one when that is closed", async () => {
      await using opened = await openPage(browser, service.url);
      const { page, context } = opened;
      const { held } = await holdUpload(page);
      await choose(page, [wavFile("once.wav")]);
      await held;
      const second = await secondTab(context);
      expect(await second.locator(".queue-row").count()).toBe(0);
      await page.close();
      await stored(second);
      expect(await second.locator(".row-title").allTextContents()).toEqual(["once"]);
    });

    it("offers a take of another tab only when that tab has ended", async () => {
      await using opened = await openPage(browser, service.url);
      const { page, context } = opened;
      await page.click("#record");
      await recorded(page, 1);
      const second = await secondTab(context);
      expect(await second.getByText("was found.").count()).toBe(0);
      // The tab that has recorded it sends it, and the other one still does not offer it.
      const { held } = await holdUpload(page);
      await page.click("#record");
      const route = await held;
      expect(await second.getByText("was found.").count()).toBe(0);
      await route.abort();
      await stored(page);
      await page.click("#record");
      await recorded(page, 1);
      const third = await secondTab(context);
      await page.close();
      await third.getByText("was found.").waitFor();
      expect(await second.getByText("was found.").count()).toBe(0);
    });

    it("does not mistake a late answer to the key before for one to the key of now", async () => {
      await using opened = await visitorWith(browser, service.url, "one.wav");
      const { page } = opened;
      const ann = await client.createUser("Ann");
      const { held } = await holdUpload(page);
      await choose(page, [wavFile("two.wav")]);
      const route = await held;
      await page.click("header button");
      await page.getByText("Open another account in this browser").click();
      await page.locator("dialog input[type=password]").last().fill(ann.token);
      await button(page, "Open account").click();
      await notice(page, "These are the recordings of Ann.");
      await page.keyboard.press("Escape");
      await route.fulfill({
        status: 401,
        json: { error: { code: "UNAUTHENTICATED", message: "The token is unknown." } },
      });
      await stored(page);
      expect(await page.getByText("no longer valid").count()).toBe(0);
      expect(await page.locator(".row-title").allTextContents()).toEqual(["two"]);
    });

    it("does not show the recordings of the account before, if those of the next one cannot be loaded", async () => {
      await using opened = await visitorWith(browser, service.url, "not Ann's.wav");
      const { page } = opened;
      const ann = await client.createUser("Ann");
      await page.route("**/graphql", async (route) => {
        if (route.request().postData()?.includes("query Library")) await route.abort();
        else await route.continue();
      });
      await page.click("header button");
      await page.getByText("Open another account in this browser").click();
      await page.locator("dialog input[type=password]").last().fill(ann.token);
      await button(page, "Open account").click();
      await page.locator(".library .error-text").waitFor({ state: "attached" });
      expect(await page.locator(".row").count()).toBe(0);
    });

    it("shows nothing as found when a search fails, and says what to do", async () => {
      await using opened = await visitorWith(browser, service.url, "one.wav", "two.wav");
      const { page } = opened;
      await page.route("**/graphql", async (route) => await route.abort());
      await page.fill("#search", "two");
      const failed = "The search did not work. The service cannot be reached. Is the network there?";
      await page.locator(".library").getByText(failed).waitFor();
      await page.locator("[aria-live=polite]", { hasText: failed }).waitFor({ state: "attached" });
      expect(await page.locator(".row").count()).toBe(0);
      expect(await accessibilityFaults(page)).toEqual([]);
      await page.unroute("**/graphql");
      await button(page, "Try again").click();
      await page.locator(".row").waitFor();
      expect(await page.locator(".row-title").allTextContents()).toEqual(["two"]);
      expect(await page.getByText("The search did not work.").count()).toBe(0);
    });

    it("shows messages above a player that says why it does not play", async () => {
      await using opened = await visitorWith(browser, service.url, "one.wav");
      const { page } = opened;
      await choose(page, [wavFile("two.wav", tone(40))]);
      await stored(page);
      await page.getByLabel("Who can open one").selectOption("Private"); // its address has to be asked for
      await notice(page, "“one” is private");
      await page.setViewportSize({ width: 320, height: 640 });
      const [share, ...others] = await Promise.all(
        ["Share", "Rename", "Delete"].map(
          async (does) => (await page.locator(`.row [aria-label='${does} two']`).boundingBox())!,
        ),
      );
      expect(others.map(({ y }) => y)).toEqual([share!.y, share!.y]);
      expect(others[0]!.x).toBeGreaterThanOrEqual(share!.x + share!.width + 8);
      await page.click("[aria-label='Play two']");
      await page.locator(".player [aria-label='Pause two']").waitFor();
      await page.getByRole("slider").press("5");
      await page.locator(".player .time", { hasText: /0:[23]\d \/ 0:40/ }).waitFor();
      await page.route("**/*loudness=*", async (route) => await route.abort());
      await page.click("[aria-label='Play one']");
      await page.locator(".player .error-text").waitFor();
      expect(await page.locator(".player .time").textContent()).toBe("0:00 / 0:01"); // not the position of the other
      await page.focus("[aria-label='Play two']");
      await page.keyboard.press("Delete");
      await notice(page, "“two” is deleted.");
      // Before all else, because a message stays for six seconds.
      const [player, message] = [page.locator(".player"), page.locator(".notice", { hasText: "two" })];
      const [under, above] = [await player.boundingBox(), await message.boundingBox()];
      expect(above!.y).toBeGreaterThanOrEqual(0);
      expect(above!.y + above!.height).toBeLessThanOrEqual(under!.y);
      expect(under!.y + under!.height).toBeLessThanOrEqual(640);
      expect(await accessibilityFaults(page)).toEqual([]);
      // The end of the page is not under the player.
      await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
      const end = (await page.locator("footer").boundingBox())!;
      expect(end.y + end.height).toBeLessThanOrEqual((await player.boundingBox())!.y + 1);
    });

    it("says that a part of the page did not load, and opens it when it can be loaded", async () => {
      await using opened = await openPage(browser, service.url);
      const { page } = opened;
      await page.route("**/dialogs*.js", async (route) => await route.abort());
      await button(page, "Account").click();
      await notice(page, "A part of the page did not load. Check the network, and reload the page.");
      await page.unroute("**/dialogs*.js");
      await page.reload();
      await button(page, "Account").click();
      await page.getByText("There is no account yet.").waitFor();
      expect(await accessibilityFaults(page)).toEqual([]);
      await page.keyboard.press("Escape");
      await page.locator("header button:focus").waitFor();
    });

    it("tells what is not kept over a reload, because the browser has no room for it", async () => {
      await using opened = await openPage(browser, service.url);
      const { page } = opened;
      await page.addInitScript(() => {
        // oxlint-disable-next-line typescript/unbound-method -- it is called with its store
        const put = IDBObjectStore.prototype.put;
        IDBObjectStore.prototype.put = function (row) {
          const request = put.call(this, row);
          request.addEventListener("success", () => this.transaction.abort()); // as a full disk does
          return request;
        };
      });
      await page.reload();
      await holdUpload(page);
      await choose(page, [wavFile("large.wav")]);
      await page.getByText("The browser cannot keep this file").waitFor();
      expect(await accessibilityFaults(page)).toEqual([]);
    });

    it("keeps and sends what was recorded before the disk was full", async () => {
      await using opened = await openPage(browser, service.url);
      const { page } = opened;
      const full = `
        const write = FileSystemSyncAccessHandle.prototype.write;
        FileSystemSyncAccessHandle.prototype.write = function (bytes, options) {
          if (options.at > 300_000) throw new DOMException("", "QuotaExceededError");
          return write.call(this, bytes, options);
        };`;
      await runInTakeWorker(page, full);
      await page.reload();
      await page.click("#record");
      await page.getByText("This device has no room for more sound").waitFor();
      expect(await accessibilityFaults(page)).toEqual([]);
      await stored(page);
      const fields = "durationSeconds warnings";
      const { data } = await client.run(`{ me { records { nodes { ${fields} } } } }`, {}, await userOf(page));
      const [record] = data.me.records.nodes;
      expect(record.warnings).toEqual([]);
      expect(record.durationSeconds).toBeGreaterThan(3);
    });

    it("says that it hears nothing, in a take and in a test before it", async () => {
      const nothing = join(folder, "nothing.wav");
      await writeFile(nothing, sineWav({ seconds: 5, sampleRateHz: 44_100, channels: 1, amplitude: 0 }));
      const silent = await openBrowserWithMicrophone(nothing);
      try {
        await using opened = await openPage(silent, service.url);
        const { page, complaints } = opened;
        await page.click("summary");
        await button(page, "Test the microphone").click();
        await page.getByText("I hear nothing.").waitFor();
        expect(await accessibilityFaults(page)).toEqual([]);
        await page.click("#record");
        await page.locator(".recorder.recording").waitFor();
        await page.getByText("I hear nothing.").waitFor({ state: "detached" });
        await page.getByText("I hear nothing.").waitFor();
        expect(complaints).toEqual([]);
      } finally {
        await silent.close();
      }
    });

    it("says how many samples were lost, and that it is too loud, also where nothing may move", async () => {
      await using opened = await openPage(browser, service.url);
      const { page } = opened;
      await page.emulateMedia({ reducedMotion: "reduce" });
      await runInTakeWorker(
        page,
        `addEventListener("message", ({ data }) => data.source?.addEventListener("message", ({ data: block }) =>
           Object.assign(block, { lost: 128, clipped: 4 })));`,
      );
      await page.reload();
      await page.click("#record");
      await page.getByText(/[1-9][\d,]* samples were lost: this device was too busy/).waitFor();
      await page.getByText("Too loud: parts are distorted.").waitFor();
      expect(await accessibilityFaults(page)).toEqual([]);
      const animation = async () =>
        await page.evaluate(() => getComputedStyle(document.querySelector(".record")!).animationName);
      expect(await animation()).toBe("none");
      await page.emulateMedia({ reducedMotion: "no-preference" });
      expect(await animation()).toBe("pulse");
    });

    it("records with the microphone that was chosen, also after a reload, and unprocessed unless asked", async () => {
      await using opened = await openPage(browser, service.url);
      const { page, complaints } = opened;
      await page.addInitScript(() => {
        const devices = navigator.mediaDevices;
        const open = devices.getUserMedia.bind(devices);
        devices.getUserMedia = async (constraints) => {
          Object.assign(globalThis, { asked: constraints!.audio });
          return await open(constraints);
        };
      });
      await page.reload();
      const asked = async () =>
        await page.evaluate(() => (globalThis as unknown as { asked: MediaTrackConstraints }).asked);
      const test = async (): Promise<void> => {
        await page.click("summary");
        await button(page, "Test the microphone").click();
        await button(page, "End the test").click();
        await page.click("summary");
      };
      await test();
      const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
      expect(await asked()).toEqual({ ...plain, channelCount: { ideal: 1 } });
      await page.selectOption(".settings select", { index: 2 });
      const chosen = await page.locator(".settings select").inputValue();
      await page.getByLabel("Process it like a phone call").check();
      await page.reload();
      await test();
      const processed = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
      expect(await asked()).toEqual({ ...processed, channelCount: { ideal: 1 }, deviceId: { exact: chosen } });
      expect(complaints).toEqual([]);
    });

    it("says that the space is used up, and what to do", async () => {
      await using full = await startService({ DATABASE_URL: service.databaseUrl, QUOTA_RECORDS: "1" });
      await using opened = await visitorWith(browser, full.url, "one.wav");
      const { page } = opened;
      await choose(page, [wavFile("two.wav")]);
      await page.getByText("Your space is used up. Delete recordings, or ask the operator for more.").waitFor();
      expect(await accessibilityFaults(page)).toEqual([]);
      await page.click("header button");
      await page.getByText("Recordings: 1 of 1").waitFor();
    });

    it("shows the level of the microphone before a take, and stores nothing of it", async () => {
      await using opened = await openPage(browser, service.url);
      const { page, complaints } = opened;
      await page.click("summary");
      await button(page, "Test the microphone").click();
      await page.waitForFunction(() => Math.abs(document.querySelector("meter")!.value + 12) < 1);
      await button(page, "End the test").click();
      await page.getByText("Press Record.").waitFor();
      const takes = await page.evaluate(async () => {
        const names: string[] = [];
        for await (const name of (await navigator.storage.getDirectory()).keys()) names.push(name);
        return names;
      });
      expect([takes, complaints]).toEqual([[], []]);
    });

    it("goes on after an interruption, and sends what it has when the microphone is gone", async () => {
      await using opened = await openWithHold();
      const { page, complaints } = opened;
      await page.click("#record");
      await page.locator(".recorder.recording").waitFor();
      const mute = async (isMuted: boolean) =>
        await page.evaluate((value) => {
          const { microphone } = globalThis as unknown as Held;
          Object.defineProperty(microphone, "muted", { value, configurable: true });
          microphone.dispatchEvent(new Event(value ? "mute" : "unmute"));
        }, isMuted);
      await mute(true);
      await page.getByText("interrupted the microphone").waitFor();
      expect(await accessibilityFaults(page)).toEqual([]);
      await mute(false);
      await page.getByText("interrupted the microphone").waitFor({ state: "detached" });
      await page.evaluate(async () => await (globalThis as unknown as Held).context.suspend());
      await recorded(page, 2); // it has resumed
      await page.evaluate(() => {
        const { microphone } = globalThis as unknown as Held;
        microphone.stop();
        microphone.dispatchEvent(new Event("ended"));
      });
      await page.getByText("The microphone went away.").waitFor();
      await stored(page);
      const { data } = await client.run("{ me { records { nodes { durationSeconds } } } }", {}, await userOf(page));
      expect(data.me.records.nodes[0].durationSeconds).toBeGreaterThanOrEqual(2);
      expect(complaints).toEqual([]);
    });

    it("takes a folder that is dropped, with the folders in it, and says what is no WAV", async () => {
      const album = join(folder, "album");
      await mkdir(join(album, "side B"), { recursive: true });
      const files: Record<string, Buffer | string> = {
        "first.wav": tone(0.5),
        ".hidden.wav": tone(0.5),
        "cover.txt": "Dear Ann",
        "side B/second.wav": tone(0.5),
      };
      for (const [name, content] of Object.entries(files)) await writeFile(join(album, name), content);
      await using opened = await openPage(browser, service.url);
      const { page, context, complaints } = opened;
      const session = await context.newCDPSession(page);
      for (const type of ["dragEnter", "dragOver", "drop"] as const) {
        const data = { items: [], files: [album], dragOperationsMask: 1 };
        await session.send("Input.dispatchDragEvent", { type, x: 200, y: 200, data });
        if (type === "dragOver") await page.getByText("Drop to upload").waitFor();
      }
      await stored(page, 2);
      await page.getByText("This is another kind of file. Only WAV files can be sent.").waitFor();
      expect(await page.locator(".queue-row").count()).toBe(3);
      expect((await page.locator(".row-title").allTextContents()).toSorted()).toEqual(["first", "second"]);
      expect(await page.getByText("Drop to upload").count()).toBe(0);
      expect(complaints).toEqual([]);
    });

    it("revokes a device whatever it is called, but not the first key", async () => {
      await using opened = await visitorWith(browser, service.url, "one.wav");
      const { page } = opened;
      await page.click("header button");
      await page.fill("[placeholder='My phone']", "first");
      await button(page, "Create a link for it").click();
      await page.locator("[aria-label='Revoke first']").waitFor();
      expect(await page.locator("[aria-labelledby=devices-title] li strong").allTextContents()).toEqual([
        "first",
        "The first key",
      ]);
      await page.click("[aria-label='Revoke first']");
      await notice(page, "“first” can no longer use this account.");
      await page.locator("[aria-label^=Revoke]").waitFor({ state: "detached" });
    });
  });
});
