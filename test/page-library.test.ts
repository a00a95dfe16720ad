/// <reference lib="dom" />
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { readFile } from "node:fs/promises";
import type { Browser, Locator, Page } from "playwright-core";
import { ApiClient } from "./support/api-client.ts";
import { openBrowser } from "./support/browser.ts";
import { needs } from "./support/needs.ts";
import {
  accessibilityFaults,
  button,
  choose,
  notice,
  openPage,
  stored,
  tone,
  userOf,
  visitorWith,
  wavFile,
  type OpenedPage,
} from "./support/page.ts";
import { startService, type TestService } from "./support/service.ts";
import { seedRecords } from "./support/seed-records.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

/** What a test has taken hold of in the page. */
interface Held {
  player: HTMLAudioElement;
  systemKeys: Partial<Record<MediaSessionAction, MediaSessionActionHandler>>;
}

describe("the library and the player of the page", () => {
  needs("Chromium", () => {
    let service: TestService;
    let client: ApiClient;
    let browser: Browser;

    beforeAll(async () => {
      service = await startService();
      client = new ApiClient(service.url);
      browser = await openBrowser();
    });

    afterAll(async () => {
      await browser?.close();
      await service?.[Symbol.asyncDispose]();
    });

    /** Opens the page with a recording, and with a hold on its player. */
    async function openWithRecording(file: ReturnType<typeof wavFile>): Promise<OpenedPage> {
      const opened = await openPage(browser, service.url);
      await opened.page.addInitScript(() => {
        const held = globalThis as unknown as Held;
        globalThis.Audio = class extends Audio {
          constructor() {
            super();
            held.player = this;
          }
        };
        held.systemKeys = {};
        const { mediaSession } = navigator;
        const set = mediaSession.setActionHandler.bind(mediaSession);
        mediaSession.setActionHandler = (action, handler) => {
          set(action, handler);
          if (handler) held.systemKeys[action] = handler;
        };
      });
      await opened.page.reload();
      await choose(opened.page, [file]);
      await stored(opened.page);
      return opened;
    }

    const play = async (page: Page): Promise<void> => {
      await page.click("[data-row-action=play]");
      await page.locator(".player [aria-label^=Pause]").waitFor();
    };

    it("deletes the recordings that were selected with one undo", async () => {
      await using opened = await visitorWith(browser, service.url, "a.wav", "b.wav", "c.wav", "d.wav");
      const { page, complaints } = opened;
      const titles = async () => await page.locator(".row-title").allTextContents();
      const before = await titles();
      await button(page, "Select").click();
      for (const title of [before[1], before[3]]) await page.getByLabel(`Select ${title}`, { exact: true }).check();
      await page.getByText("2 selected").waitFor();
      expect(await accessibilityFaults(page)).toEqual([]);
      await button(page, "Delete").click();
      await notice(page, "2 recordings are deleted.");
      expect(await titles()).toEqual([before[0], before[2]]);
      await button(page, "Undo").click();
      expect(await titles()).toEqual(before);
      await button(page, "Select").click();
      await button(page, "Select all shown").click();
      await page.getByLabel(`Select ${before[2]}`, { exact: true }).uncheck();
      await page.keyboard.press("Delete");
      await notice(page, "3 recordings are deleted.");
      expect(await titles()).toEqual([before[2]]);
      const user = await userOf(page);
      await page.goto("about:blank"); // leaving does not bring them back
      const left = await until(
        async () => (await client.run("{ me { records { nodes { title } } } }", {}, user)).data.me.records.nodes,
        (nodes) => nodes.length < 4,
      );
      expect([left, complaints]).toEqual([[{ title: before[2] }], []]);
    });

    it("keeps the focus near its place when what has it goes away, and undoes with a key", async () => {
      await using opened = await openPage(browser, service.url);
      const { page, complaints } = opened;
      await choose(
        page,
        ["a.wav", "b.wav", "c.wav"].map((name) => wavFile(name)),
      );
      await stored(page, 3);
      const focused = page.locator(":focus");
      const press = async (name: string, next: string): Promise<void> => {
        await button(page, name).focus();
        await page.keyboard.press("Enter");
        await page
          .getByRole(next === "Search" ? "searchbox" : "button", { name: next, exact: true })
          .and(focused)
          .waitFor();
      };
      const [first, second] = await page.locator(".queue-row strong").allTextContents();
      await press(`Remove ${first}.wav from the list`, `Remove ${second}.wav from the list`);
      await press("Clear the list", "Choose files");
      await press("Select", "Select all shown");
      await press("Cancel", "Search");
      await press("Play a", "Pause a");
      await press("Close the player", "Play a");
      await page.keyboard.press("Delete");
      await notice(page, "“a” is deleted.");
      await page.keyboard.press("Control+z");
      await button(page, "Play a").and(focused).waitFor();
      await press("Share a", "Close");
      await press("Make a link", "Make a link");
      await notice(page, "The new link");
      await press("Revoke the link ", "Make a link");
      await page.keyboard.press("Escape");
      await button(page, "Share a").and(focused).waitFor();
      await press("Select", "Select all shown");
      await page.keyboard.press("Enter");
      await press("Delete", "Choose a folder");
      await page.keyboard.press("Control+z");
      await page.locator(".row").nth(2).waitFor();
      await page.locator("[data-row-action=play]").first().and(focused).waitFor();
      // Nothing had it before, so that single keys still work.
      await page.evaluate(() => (document.activeElement as HTMLElement).blur());
      for (const key of ["?", "Escape", "/"]) {
        await page.keyboard.press(key);
        if (key === "?") await page.locator("dialog").waitFor();
        else if (key === "Escape") await page.locator("dialog").waitFor({ state: "detached" });
      }
      await page.locator("#search").and(focused).waitFor();
      expect(complaints).toEqual([]);
    });

    it("keeps a new link, a new title and a deletion, although an older answer comes after them", async () => {
      await using opened = await visitorWith(browser, service.url, "a.wav", "b.wav");
      const { page, complaints } = opened;
      /** Does something, and holds the answer to a question that it asks back. Resolves with what lets the answer go. */
      const holdBack = async (operation: string, ask: () => Promise<unknown>): Promise<() => Promise<void>> => {
        const given = Promise.withResolvers<void>();
        const released = Promise.withResolvers<void>();
        const arrived = Promise.withResolvers<void>();
        let isFirst = true;
        await page.route("**/graphql", async (route) => {
          if (!isFirst || !route.request().postData()!.includes(`query ${operation}(`)) return await route.continue();
          isFirst = false;
          const response = await route.fetch();
          given.resolve();
          await released.promise;
          await route.fulfill({ response });
          arrived.resolve();
        });
        await ask();
        await given.promise;
        return async () => {
          released.resolve();
          await arrived.promise;
          await page.unroute("**/graphql");
        };
      };
      const titles = async () => (await page.locator(".row-title").allTextContents()).toSorted();
      const user = await userOf(page);
      const nodes = async () =>
        (await client.run("{ me { records { nodes { id title } } } }", {}, user)).data.me.records.nodes;
      const { id } = (await nodes()).find(({ title }: { title: string }) => title === "a");
      await client.run(`mutation { createLink(recordId: "${id}", note: "for Bob") { link { id } } }`, {}, user);

      const listLinks = await holdBack("Links", async () => await button(page, "Share a").click());
      await button(page, "Make a link").click();
      await notice(page, "The new link");
      await listLinks();
      await button(page, "Revoke the link for Bob").waitFor();
      expect(await button(page, "Revoke the link ").count()).toBe(1);
      await page.keyboard.press("Escape");

      const orderBy = async (field: string) => await page.getByLabel("Order").selectOption(field);
      const list = await holdBack("Library", async () => await orderBy("DURATION"));
      await button(page, "Rename a").click();
      await page.keyboard.type("new");
      await page.keyboard.press("Enter");
      await button(page, "Rename new").waitFor();
      await list();
      await page.locator(".rows[aria-busy=false]").waitFor();
      expect(await titles()).toEqual(["b", "new"]);

      const listAgain = await holdBack("Library", async () => await orderBy("SIZE"));
      await button(page, "Play b").focus();
      await page.keyboard.press("Delete");
      await until(nodes, ({ length }) => length === 1);
      await listAgain();
      await page.locator(".rows[aria-busy=false]").waitFor();
      expect(await titles()).toEqual(["new"]);
      expect(complaints).toEqual([]);
    });

    it("shows no link of a recording that was deleted, until that is undone", async () => {
      await using opened = await openPage(browser, service.url);
      const { page } = opened;
      await choose(page, [wavFile("gone.wav")]);
      await stored(page);
      await page.locator(".queue-row input").waitFor();
      await page.locator("[data-row-action=play]").first().focus();
      await page.keyboard.press("Delete");
      await page.getByText("It was deleted.").waitFor();
      expect(await page.locator(".queue-row input").count()).toBe(0);
      await button(page, "Undo").click();
      await page.locator(".queue-row input").waitFor();
    });

    it("does not come back with a file that it cannot send, once the list was cleared", async () => {
      await using opened = await openPage(browser, service.url);
      const { page } = opened;
      await page.evaluate(async () => {
        const database = await new Promise<IDBDatabase>((resolve) => {
          const request = indexedDB.open("web-user-music", 1);
          request.addEventListener("success", () => resolve(request.result));
        });
        const kept = { key: "1", name: "kept.wav", file: new Blob(["fLaC no WAV"]) };
        const transaction = database.transaction("files", "readwrite");
        transaction.objectStore("files").put(kept);
        await new Promise((resolve) => transaction.addEventListener("complete", resolve));
      });
      await page.reload();
      await page.locator(".queue-row.refused").waitFor();
      await button(page, "Clear the list").click();
      await page.waitForFunction(async () => (await navigator.locks.query()).held!.length === 0);
      await page.reload();
      // Files of an earlier visit are added before those that are chosen now.
      await choose(page, [wavFile("next.wav")]);
      await stored(page);
      expect(await page.locator(".queue-row.refused").count()).toBe(0);
    });

    it("shows a new title, and whether a recording is private, everywhere at once", async () => {
      await using opened = await openWithRecording(wavFile("old.wav"));
      const { page, complaints } = opened;
      await play(page);
      await page.click("[aria-label='Rename old']");
      await page.keyboard.type("new");
      await page.keyboard.press("Enter");
      await page.locator(".player strong", { hasText: "new" }).waitFor();
      await page.locator(".queue-row strong", { hasText: "new" }).waitFor();
      expect(await page.getByRole("slider").getAttribute("aria-label")).toBe("Position in new");
      const whoCanOpen = page.getByLabel("Who can open new");
      await whoCanOpen.selectOption("Private");
      await notice(page, "“new” is private: its link opens it no longer.");
      await page.getByText("Stored. Only you can open it.").waitFor();
      // One that was changed by mistake is changed back.
      await button(page, "Undo").click();
      await page.getByText("Stored. Anyone with this link can listen:").waitFor();
      expect(await whoCanOpen.inputValue()).toBe("PUBLIC");
      // What was not changed is not shown as if it was.
      await page.route("**/graphql", async (route) => await route.abort());
      await whoCanOpen.selectOption("Private");
      await notice(page, "The service cannot be reached.");
      expect(await whoCanOpen.inputValue()).toBe("PUBLIC");
      await page.unroute("**/graphql");
      await whoCanOpen.selectOption("Private");
      await page.getByText("Stored. Only you can open it.").waitFor();
      const [saved] = await Promise.all([page.waitForEvent("download"), page.click("[aria-label='Download new']")]);
      expect([saved.suggestedFilename(), await saved.failure()]).toEqual(["new.mp3", null]);
      // The list has other recordings, so the dialog knows it only from the queue.
      await page.fill("#search", "something else");
      await page.getByText("No recording has these words").waitFor();
      await page.click("[aria-label='Share new']");
      await page.getByRole("dialog", { name: "Share “new”" }).waitFor();
      await page.click("dialog >> text=Private: only the links below open it");
      await page.locator("dialog").getByText("Anyone who has this link can listen.").waitFor();
      expect(complaints.filter((text) => !text.includes("net::ERR_FAILED"))).toEqual([]);
    });

    it("shows the whole row of a file while the service finishes it", async () => {
      await using opened = await openPage(browser, service.url);
      const { page } = opened;
      const held = Promise.withResolvers<void>();
      await page.route("**/graphql", async (route) => {
        if (route.request().postData()?.includes("query Recording(")) await held.promise;
        await route.continue();
      });
      await choose(page, [wavFile("one.wav")]);
      const row = page.locator(".queue-row.finishing");
      await row.waitFor();
      const bottomOf = async (part: Locator): Promise<number> => {
        const { y, height } = (await part.boundingBox())!;
        return y + height;
      };
      expect(await bottomOf(row)).toBeGreaterThan(await bottomOf(row.getByText("Finishing…")));
      held.resolve();
      await stored(page);
    });

    it("lists the files of a batch by the time at which they began, whichever is stored first", async () => {
      await using opened = await openPage(browser, service.url);
      const { page } = opened;
      const held = Promise.withResolvers<void>();
      await page.route("**/uploads/*", async (route) => {
        // The first one arrives last.
        if (route.request().headers()["upload-length"] === String(tone(1).length)) await held.promise;
        await route.continue();
      });
      // One after another: the page does not know the order of two that began in the same millisecond.
      for (const [name, seconds] of [
        ["first", 1],
        ["second", 2],
        ["third", 3],
      ] as const) {
        const begun = page.waitForResponse(async (response) => (await response.text()).includes("startUpload"));
        await choose(page, [wavFile(`${name}.wav`, tone(seconds))]);
        await begun;
      }
      await stored(page, 2);
      held.resolve();
      await stored(page, 3);
      const shown = await page.locator(".row-title").allTextContents();
      expect(shown.at(-1)).toBe("first");
      await page.reload();
      await page.locator(".row").nth(2).waitFor();
      expect(await page.locator(".row-title").allTextContents()).toEqual(shown);
    });

    it("plays and pauses by the keys of headphones and lock screens", async () => {
      await using opened = await openWithRecording(wavFile("song.wav", tone(40)));
      const { page, complaints } = opened;
      await play(page);
      const press = async (action: MediaSessionAction, details: object = {}) =>
        await page.evaluate(
          ([action, details]) => (globalThis as unknown as Held).systemKeys[action]!({ action, ...details }),
          [action, details] as const,
        );
      const at = async () => Number(await page.getByRole("slider").getAttribute("aria-valuenow"));
      expect(await page.evaluate(() => navigator.mediaSession.metadata!.title)).toBe("song");
      await press("pause");
      await page.locator(".player [aria-label^=Play]").waitFor();
      await press("pause"); // it stays paused
      await press("seekto", { seekTime: 20 });
      expect(await at()).toBe(20);
      await press("seekforward");
      expect(await at()).toBe(30);
      await press("seekbackward");
      expect(await at()).toBe(20);
      expect(await page.locator(".player [aria-label^=Play]").count()).toBe(1);
      await press("play");
      await page.locator(".player [aria-label^=Pause]").waitFor();
      expect(complaints).toEqual([]);
    });

    it("goes on where somebody stopped listening, also after a reload", async () => {
      await using opened = await openWithRecording(wavFile("long.wav", tone(120)));
      const { page, complaints } = opened;
      await play(page);
      await page.getByRole("slider").press("5");
      await page.waitForFunction(() => (globalThis as unknown as Held).player.currentTime >= 60);
      await page.reload();
      // The message may be gone before the sound begins. The sound went on until the reload, so for some seconds.
      await Promise.all([notice(page, "Resumed at 1:"), play(page)]);
      await page.waitForFunction(() => (globalThis as unknown as Held).player.currentTime >= 60);
      expect(await accessibilityFaults(page)).toEqual([]);
      await button(page, "From the beginning").click();
      await page.waitForFunction(() => (globalThis as unknown as Held).player.currentTime < 10);
      // What was heard to its end begins at its beginning.
      await page.getByRole("slider").press("End");
      await page.locator(".player [aria-label^=Play]").waitFor();
      await page.reload();
      await play(page);
      await page.waitForFunction(() => (globalThis as unknown as Held).player.currentTime < 10);
      expect(await page.locator(".notice").count()).toBe(0);
      expect(complaints).toEqual([]);
    });

    it("plays faster at the same pitch", async () => {
      await using opened = await openWithRecording(wavFile("pitch.wav", tone(60)));
      const { page } = opened;
      await play(page);
      await page.selectOption(".player select", "2");
      const heard = await page.evaluate(async () => {
        const { player } = globalThis as unknown as Held;
        const context = new AudioContext();
        const analyser = new AnalyserNode(context, { fftSize: 32_768, smoothingTimeConstant: 0 });
        context.createMediaElementSource(player).connect(analyser);
        const bins = new Float32Array(analyser.frequencyBinCount);
        const from = player.currentTime;
        const began = context.currentTime;
        // Until the analyser has heard nothing but this.
        while (context.currentTime < began + 2) await new Promise((resolve) => requestAnimationFrame(resolve));
        analyser.getFloatFrequencyData(bins);
        const loudest = bins.indexOf(Math.max(...bins));
        return {
          hertz: (loudest * context.sampleRate) / analyser.fftSize,
          speed: (player.currentTime - from) / (context.currentTime - began),
        };
      });
      expect(Math.abs(heard.hertz - 440)).toBeLessThan(10);
      expect(heard.speed).toBeGreaterThan(1.5);
    });

    it("plays quiet recordings as loud as others, unless that is switched off", async () => {
      await using opened = await openWithRecording(wavFile("quiet.wav", tone(10, 0.01)));
      const { page } = opened;
      await play(page);
      /** The level of what plays, in decibels below full scale. */
      const level = async () =>
        await page.evaluate(async () => {
          const { player } = globalThis as unknown as Held;
          const bytes = await (await fetch(player.src)).arrayBuffer();
          const sound = (await new OfflineAudioContext(1, 1, 44_100).decodeAudioData(bytes)).getChannelData(0);
          return 20 * Math.log10(Math.hypot(...sound.subarray(10_000, 60_000)) / Math.sqrt(50_000));
        });
      const even = await level();
      await page.getByLabel("Normalize volume").uncheck();
      await page.waitForFunction(() => !(globalThis as unknown as Held).player.src.includes("loudness"));
      const plain = await level();
      expect(plain).toBeLessThan(-40);
      expect(even).toBeGreaterThan(-24);
    });

    it("lists recordings in the order that was chosen, with what is worth knowing about the sound", async () => {
      await using opened = await openPage(browser, service.url);
      const { page, complaints } = opened;
      const loud = sineWav({ seconds: 2, sampleRateHz: 8000, channels: 1, amplitude: 1.5 });
      await choose(page, [wavFile("b.wav", loud), wavFile("c.wav", tone(3, 0.002)), wavFile("a.wav", tone(1))]);
      await stored(page, 3);
      const inOrder = async (order: string, titles: string[]): Promise<void> => {
        await page.getByLabel("Order").selectOption(order);
        const shown = await until(
          async () => await page.locator(".row-title").allTextContents(),
          (found) => String(found) === String(titles),
        );
        expect(shown).toEqual(titles);
      };
      await inOrder("By title", ["a", "b", "c"]);
      await inOrder("Longest first", ["c", "b", "a"]);
      await page.locator(".row", { hasText: "Too loud" }).getByText("b", { exact: true }).waitFor();
      await page.locator(".row", { hasText: "Very quiet" }).getByText("c", { exact: true }).waitFor();
      expect(complaints).toEqual([]);
    });

    it("shows a long list in parts, to whoever enters the key of its account", async () => {
      const ann = await client.createUser("Ann");
      await seedRecords(service.server.database.pool, { ownerId: ann.id, count: 40 });
      await using opened = await openPage(browser, service.url);
      const { page, complaints } = opened;
      await button(page, "Account").click();
      await page.fill("dialog input[type=password]", ann.token);
      await button(page, "Open account").click();
      await notice(page, "These are the recordings of Ann.");
      await page.keyboard.press("Escape");
      await page.locator(".row").nth(29).waitFor();
      expect(await page.locator(".row").count()).toBe(30);
      await button(page, "Show more").click();
      await page.locator(".row").nth(39).waitFor();
      const titles = await page.locator(".row-title").allTextContents();
      expect(titles.map((title) => Number(title.split(" ").at(-1)))).toEqual(
        Array.from({ length: 40 }, (_, at) => 40 - at),
      );
      expect(await button(page, "Show more").count()).toBe(0);
      expect(complaints).toEqual([]);
    });

    it("gives links to the share sheet of the system, and the key as a copy and as a file", async () => {
      await using opened = await openPage(browser, service.url);
      const { page, context, complaints } = opened;
      await context.grantPermissions(["clipboard-read", "clipboard-write"]);
      await page.addInitScript(() => {
        navigator.share = async (shared) => void Object.assign(globalThis, { shared });
      });
      await page.reload();
      await choose(page, [wavFile("song.wav")]);
      await stored(page);
      const url = await page.locator(".queue-row input").inputValue();
      await page.click("[aria-label='Share song']");
      await button(page, "Send with an app").click();
      expect(await page.evaluate(() => (globalThis as unknown as { shared: unknown }).shared)).toEqual({
        title: "song",
        url,
      });
      await page.keyboard.press("Escape");
      const { token } = await userOf(page);
      await page.click("header button");
      const keyPart = page.locator("[aria-labelledby=key-title]");
      await keyPart.getByRole("button", { name: "Copy" }).click();
      await notice(page, "The key is copied.");
      expect(await page.evaluate(async () => await navigator.clipboard.readText())).toBe(token);
      const [download] = await Promise.all([page.waitForEvent("download"), button(page, "Save as a file").click()]);
      expect(download.suggestedFilename()).toBe("web-user-music key.txt");
      expect(await readFile(await download.path(), "utf8")).toContain(token);
      expect(complaints).toEqual([]);
    });

    it("can be used in forced colours", async () => {
      await using opened = await openWithRecording(wavFile("song.wav"));
      const { page, complaints } = opened;
      await page.emulateMedia({ forcedColors: "active" });
      await play(page);
      expect(await accessibilityFaults(page)).toEqual([]);
      const seen = await page.evaluate(() => {
        const styleOf = (selector: string) => getComputedStyle(document.querySelector(selector)!);
        const canvas = document.querySelector<HTMLCanvasElement>(".row .wave")!;
        const { data } = canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height);
        return {
          shape: styleOf(".record-shape").backgroundColor !== styleOf(".record").backgroundColor,
          borders: [".record", ".player", ".card", ".row button", ".player select"].map(
            (selector) => styleOf(selector).borderTopWidth !== "0px" && styleOf(selector).borderTopStyle === "solid",
          ),
          wave: data.some((byte) => byte !== 0),
        };
      });
      expect(seen).toEqual({ shape: true, borders: [true, true, true, true, true], wave: true });
      expect(complaints).toEqual([]);
    });
  });
});
