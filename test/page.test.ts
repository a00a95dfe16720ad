/// <reference lib="dom" />
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser } from "playwright-core";
import { ApiClient } from "./support/api-client.ts";
import { decodeWithFfmpeg } from "./support/mp3-decoders.ts";
import { needs } from "./support/needs.ts";
import {
  accessibilityFaults,
  button,
  choose,
  countFrames,
  notice,
  openBrowserWithMicrophone,
  openKillableBrowser,
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
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

describe("a person with the page", () => {
  needs("Chromium", () => {
    let service: TestService;
    let client: ApiClient;
    let browser: Browser;
    let folder: string;
    /** The sound of the microphone. */
    let microphone: string;

    beforeAll(async () => {
      service = await startService();
      client = new ApiClient(service.url);
      folder = await mkdtemp(join(tmpdir(), "page-test-"));
      microphone = join(folder, "tone.wav");
      // -12 dBFS, at the rate of Chromium's false microphone
      await writeFile(
        microphone,
        sineWav({ seconds: 30, sampleRateHz: 44_100, channels: 1, amplitude: 10 ** (-12 / 20) }),
      );
      browser = await openBrowserWithMicrophone(microphone);
    });

    afterAll(async () => {
      await browser?.close();
      await service?.[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    });

    /** How many frames a player gets from the MP3 of a recording in mono. */
    const decodedFrames = async (url: string): Promise<number> =>
      (await decodeWithFfmpeg(Buffer.from(await (await fetch(url)).arrayBuffer()))).length;

    it("records with two clicks and gets a link that plays, exact to the sample and to the level", async () => {
      await using opened = await openPage(browser, service.url);
      const { page, complaints } = opened;
      const counter = await countFrames(page);
      await page.click("#record");
      await page.waitForFunction(() => (document.querySelector("meter")?.value ?? -60) > -60); // the first blocks are stored
      const from = await counter.clock();
      // While the page can do nothing at all, the recording goes on.
      await page.evaluate(() => {
        const end = performance.now() + 3000;
        while (performance.now() < end);
      });
      await page.getByText("0 samples lost").waitFor();
      expect(await accessibilityFaults(page)).toEqual([]);
      expect(await page.locator("[aria-live], [role=status], output").count()).toBe(1);
      const atLeast = (await counter.clock()) - from;
      await page.click("#record");
      await stored(page);
      const link = await page.locator(".queue-row input").inputValue();
      expect(await (await fetch(link)).text()).toContain("<audio");
      expect(await accessibilityFaults(page)).toEqual([]);

      const fields = "title url durationSeconds samplePeakDbfs warnings source { sampleRateHz channels bitsPerSample }";
      const { data } = await client.run(`{ me { name records { nodes { ${fields} } } } }`, {}, await userOf(page));
      const [record] = data.me.records.nodes;
      expect(record.warnings).toEqual([]);
      const frames = await counter.frames();
      expect(frames / 44_100).toBeGreaterThan(Math.max(atLeast, 3));
      expect(record.source).toMatchObject({ sampleRateHz: 44_100, channels: 1, bitsPerSample: 16 });
      expect(record.durationSeconds).toBeCloseTo(frames / 44_100, 9);
      expect(await decodedFrames(record.url)).toBe(frames);
      expect(Math.abs(record.samplePeakDbfs + 12)).toBeLessThan(0.1);
      expect([data.me.name, record.title]).toEqual(["Me", expect.stringMatching(/^Recording \d{4}-\d\d-\d\d \d\d/)]);
      expect(complaints).toEqual([]);
    });

    it("is offered a take again after the browser was killed, without losing more than its last block", async () => {
      const profile = join(folder, "profile");
      {
        await using killed = await openKillableBrowser(profile, microphone);
        await killed.page.goto(service.url);
        await killed.page.click("#record");
        await recorded(killed.page, 3);
        await killed.kill();
      }
      await using again = await openKillableBrowser(profile, microphone);
      const { page } = again;
      await page.goto(service.url);
      await page.getByText("was found.").waitFor();
      await button(page, "Upload").click();
      await stored(page);
      const { data } = await client.run(
        "{ me { records { nodes { durationSeconds warnings } } } }",
        {},
        await userOf(page),
      );
      const [record] = data.me.records.nodes;
      expect(record.warnings).toEqual([]);
      expect(record.durationSeconds).toBeGreaterThanOrEqual(3);
      await page.reload();
      await page.locator(".row").waitFor();
      expect(await page.getByText("was found.").count()).toBe(0);
    });

    it("records where the browser has no file system, and finds the take again after a reload", async () => {
      await using opened = await openPage(browser, service.url);
      const { page, complaints } = opened;
      const without = "delete StorageManager.prototype.getDirectory;";
      await page.addInitScript(without);
      await runInTakeWorker(page, without);
      page.on("dialog", (dialog) => void dialog.accept());
      await page.reload();
      await page.click("#record");
      await recorded(page, 2);
      await page.reload();
      await page.getByText("was found.").waitFor();
      await button(page, "Upload").click();
      await stored(page);
      const fields = "durationSeconds samplePeakDbfs warnings";
      const { data } = await client.run(`{ me { records { nodes { ${fields} } } } }`, {}, await userOf(page));
      const [record] = data.me.records.nodes;
      expect(record).toMatchObject({ warnings: [] });
      expect(record.durationSeconds).toBeGreaterThanOrEqual(1);
      expect(Math.abs(record.samplePeakDbfs + 12)).toBeLessThan(0.1);
      await page.reload();
      await page.locator(".row").waitFor();
      expect(await page.getByText("was found.").count()).toBe(0);
      expect(complaints).toEqual([]);
    });

    it("begins and ends a recording with the same key, because the button keeps the focus", async () => {
      await using opened = await openPage(browser, service.url);
      const { page, complaints } = opened;
      await page.locator("#record").focus();
      await page.keyboard.press("Enter");
      await recorded(page, 1);
      await page.keyboard.press("Enter");
      await stored(page);
      expect(complaints).toEqual([]);
    });

    it("pauses a take, throws it away and takes it back, and the pause is not in it", async () => {
      await using opened = await openPage(browser, service.url);
      const { page, complaints } = opened;
      const counter = await countFrames(page);
      await page.click("#record");
      await page.locator(".recorder.recording").waitFor();
      await button(page, "Pause").click();
      await page.getByText("Paused. Resume continues the same recording.").waitFor();
      const pausedAt = await counter.clock();
      await until(counter.clock, (clock) => clock > pausedAt + 1.5);
      await button(page, "Resume").click();
      await recorded(page, 1);
      await button(page, "Discard").click();
      await button(page, "Undo").click();
      await page.getByText("was found.").waitFor();
      expect(await accessibilityFaults(page)).toEqual([]);
      expect(await page.locator(".row").count()).toBe(0); // no recording was made
      await button(page, "Upload").click();
      await stored(page);
      const frames = await counter.frames();
      const { data } = await client.run("{ me { records { nodes { url } } } }", {}, await userOf(page));
      expect(await decodedFrames(data.me.records.nodes[0].url)).toBe(frames);
      expect(frames / 44_100).toBeLessThan((await counter.clock()) - 1);
      // It is deleted here once it is stored there.
      await page.reload();
      await page.locator(".row").waitFor();
      expect(await page.getByText("was found.").count()).toBe(0);
      expect(complaints).toEqual([]);
    });

    it("sends files, sees what they are before they are sent, and which cannot be sent", async () => {
      await using opened = await openPage(browser, service.url);
      const { page, complaints } = opened;
      const names = ["one.wav", "two.wav", "three.wav", "four.wav"];
      await choose(page, [...names.map((name) => wavFile(name)), wavFile("song.wav", Buffer.from("fLaC and more"))]);
      await page.getByText("This is a FLAC file. Only WAV files can be sent.").waitFor();
      await stored(page, 4);
      await page.getByText("0:01, 8 kHz, mono").first().waitFor();
      expect(await accessibilityFaults(page)).toEqual([]);
      await button(page, "Clear the list").click();
      expect(await page.locator(".row-title").allTextContents()).toEqual(
        expect.arrayContaining(["one", "two", "three", "four"]),
      );
      expect(complaints).toEqual([]);
    });

    it("drops a file anywhere on the page, and pastes one", async () => {
      await using opened = await openPage(browser, service.url);
      const { page } = opened;
      const bytes = [...tone(0.5)];
      for (const [event, name] of [
        ["drop", "dropped"],
        ["paste", "pasted"],
      ] as const) {
        await page.evaluate(
          ({ event, name, bytes }) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], `${name}.wav`));
            const init = { bubbles: true, cancelable: true };
            document.body.dispatchEvent(
              event === "drop"
                ? new DragEvent("drop", { ...init, dataTransfer: transfer })
                : new ClipboardEvent("paste", { ...init, clipboardData: transfer }),
            );
          },
          { event, name, bytes },
        );
        await page.locator(".row-title", { hasText: name }).waitFor();
        expect(await page.locator(".queue-row.stored").last().textContent()).toContain(name);
      }
    });

    it("goes on with a file when the network is back, also after a reload", async () => {
      await using opened = await openPage(browser, service.url);
      const { page, context } = opened;
      await context.setOffline(true);
      await page.getByText("You are offline.").waitFor();
      await choose(page, [wavFile("later.wav"), wavFile("after a reload.wav")]);
      await page.getByText("The service cannot be reached.").nth(1).waitFor();
      expect(await accessibilityFaults(page)).toEqual([]);
      await context.setOffline(false);
      await stored(page, 2);
      await page.route("**/graphql", async (route) => await route.abort());
      await choose(page, [wavFile("kept.wav")]);
      await page.getByText("The service cannot be reached.").waitFor();
      await page.unroute("**/graphql");
      page.on("dialog", (dialog) => void dialog.accept());
      await page.reload();
      await page.locator(".row-title", { hasText: "kept" }).waitFor();
      expect(await page.locator(".row").count()).toBe(3);
    });

    it("is told of a file that has changed since it was chosen, and does not wait for the network", async () => {
      await using opened = await openPage(browser, service.url);
      const { page, context } = opened;
      await context.setOffline(true);
      await page.evaluate(
        async (bytes) => {
          const folder = await navigator.storage.getDirectory();
          const handle = await folder.getFileHandle("changing.wav", { create: true });
          const write = async (content: Uint8Array<ArrayBuffer>) => {
            const writable = await handle.createWritable();
            await writable.write(content);
            await writable.close();
          };
          await write(new Uint8Array(bytes));
          const transfer = new DataTransfer();
          transfer.items.add(await handle.getFile());
          document.body.dispatchEvent(
            new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: transfer }),
          );
          Object.assign(globalThis, { change: async () => await write(new Uint8Array(bytes.length + 1)) });
        },
        [...tone(0.5)],
      );
      await page.getByText("The service cannot be reached.").waitFor();
      await page.evaluate(async () => await (globalThis as unknown as { change: () => Promise<void> }).change());
      await context.setOffline(false);
      await page.getByText("The file cannot be read. It may have been changed or deleted; add it again.").waitFor();
      expect(await button(page, "Try again").count()).toBe(1);
    });

    it("deletes one recording however long Delete is held, and can undo each", async () => {
      await using opened = await visitorWith(browser, service.url, "a.wav", "b.wav", "c.wav", "d.wav", "e.wav");
      const { page } = opened;
      const rows = async (count: number) =>
        await page.waitForFunction((wanted) => document.querySelectorAll(".row").length === wanted, count);
      await page.locator("[data-row-action=play]").first().focus();
      for (let repeat = 0; repeat < 3; repeat++) await page.keyboard.down("Delete");
      await page.keyboard.up("Delete");
      await rows(4);
      for (const left of [3, 2, 1]) {
        await page.locator("[data-row-action=play]").first().focus();
        await page.keyboard.press("Delete");
        await rows(left);
      }
      expect(await button(page, "Undo").count()).toBe(4);
      // They leave room for the page, and the newest one is seen.
      await page.setViewportSize({ width: 320, height: 640 });
      const { height } = (await page.locator(".notices").boundingBox())!;
      expect(height).toBeLessThanOrEqual(256);
      expect(await page.locator(".notices").evaluate(({ scrollTop }) => scrollTop)).toBe(0);
    });

    it("finds, renames, hides, plays and deletes recordings, with keys alone", async () => {
      await using opened = await visitorWith(browser, service.url, "alpha.wav", "beta.wav");
      const { page, complaints } = opened;
      await page.evaluate(() => (document.activeElement as HTMLElement).blur());
      await page.keyboard.press("/");
      await page.keyboard.type("alph");
      await page.waitForFunction(() => document.querySelectorAll(".row").length === 1);
      await page.keyboard.press("Tab");
      await page.keyboard.press("Tab");
      expect(await page.evaluate(() => document.activeElement!.getAttribute("aria-label"))).toBe("Play alpha");
      await page.keyboard.press("F2");
      await page.keyboard.type("<img src=x onerror=alert(1)>");
      await page.keyboard.press("Enter");
      await page.locator(".row-title", { hasText: "<img src=x" }).waitFor();
      const focused = async () => await page.evaluate(() => document.activeElement!.getAttribute("aria-label"));
      expect(await focused()).toBe("Play <img src=x onerror=alert(1)>");
      await page.keyboard.press("Tab");
      await page.keyboard.press("Tab");
      expect(await focused()).toBe("Who can open <img src=x onerror=alert(1)>");
      await page.keyboard.press("ArrowDown");
      await notice(page, "is private: its link opens it no longer.");

      // A private recording plays without a header.
      await page.locator("[data-row-action=play]").focus();
      await page.keyboard.press("Enter");
      await page.locator(".player [aria-label^=Pause]").waitFor();
      await page.waitForFunction(() => !document.querySelector(".player .time")!.textContent.startsWith("0:00 / 0:00"));
      await page.locator("[role=slider]").focus();
      await page.keyboard.press("End");
      await page.keyboard.press("Home");
      await page.keyboard.press("5");
      const now = Number(await page.locator("[role=slider]").getAttribute("aria-valuenow"));
      expect(now).toBeGreaterThanOrEqual(0.5);
      expect(await page.locator("[role=slider]").getAttribute("aria-valuetext")).toBe("0:00 of 0:01");
      expect(await accessibilityFaults(page)).toEqual([]);

      await page.locator("[data-row-action=play]").focus();
      await page.keyboard.press("Delete");
      await page.waitForFunction(() => document.querySelectorAll(".row").length === 0);
      await page.locator(".notice", { hasText: "is deleted." }).getByRole("button").click();
      await page.locator(".row").waitFor();
      await page.locator("[data-row-action=play]").focus();
      await page.keyboard.press("Delete");
      await page.goto("about:blank"); // leaving does not bring it back
      const count = async () =>
        (await client.run("{ me { records { totalCount } } }", {}, user)).data.me.records.totalCount;
      await page.goto(service.url);
      const user = await userOf(page);
      await page.locator(".row-title", { hasText: "beta" }).waitFor();
      expect(await count()).toBe(1);
      expect(complaints).toEqual([]);
    });

    it("shares a private recording by links that end, and copies them", async () => {
      await using opened = await visitorWith(browser, service.url, "gamma.wav");
      const { page, context, complaints } = opened;
      await context.grantPermissions(["clipboard-read", "clipboard-write"]);
      await page.click("[aria-label='Share gamma']");
      await page.click("dialog >> text=Private: only the links below open it");
      await page.getByText("This recording is private.").waitFor();
      await page.fill(".new-link input", "for Bob");
      await page.selectOption(".new-link select", "7");
      const week = 7 * 86_400_000;
      const earliest = Date.now() + week;
      await button(page, "Make a link").click();
      // Nothing covers the message, not even the dialog.
      await page.waitForFunction(() => {
        const { x, y, width, height } = document.querySelector(".notice")?.getBoundingClientRect() ?? new DOMRect();
        return document.elementFromPoint(x + width / 2, y + height / 2)?.closest(".notice") instanceof Element;
      });
      await page.getByText("for Bob").waitFor();
      await notice(page, "The new link is copied.");
      const query = "{ me { records { nodes { links { expiresAt } } } } }";
      const { data } = await client.run(query, {}, await userOf(page));
      const [{ expiresAt }] = data.me.records.nodes[0].links;
      expect(Date.parse(expiresAt)).toBeGreaterThanOrEqual(earliest);
      expect(Date.parse(expiresAt)).toBeLessThanOrEqual(Date.now() + week);
      const day = await page.evaluate(
        (iso) => new Date(iso).toLocaleDateString(undefined, { dateStyle: "medium" }),
        expiresAt,
      );
      expect(await page.locator(".link-facts span").textContent()).toBe(`expires on ${day}, 0 downloads`);
      const link = await page.evaluate(async () => await navigator.clipboard.readText());
      expect(await (await fetch(link)).text()).toContain("<audio");
      expect(await accessibilityFaults(page)).toEqual([]);
      await page.click("[aria-label='Revoke the link for Bob']");
      await notice(page, "The link is revoked.");
      expect((await fetch(link)).status).toBe(404);
      await page.keyboard.press("Escape");
      await page.locator("[aria-label='Share gamma']:focus").waitFor();
      expect(complaints).toEqual([]);
    });

    it("adds a device by a link, which asks before it is used, and revokes it", async () => {
      await using opened = await visitorWith(browser, service.url, "delta.wav");
      const { page } = opened;
      await page.click("header button");
      await page.getByText("1 recording, 0:01 of sound").waitFor();
      await page.fill("[placeholder='My phone']", "Ann's phone");
      await button(page, "Create a link for it").click();
      // What is to be scanned is on the screen.
      await page.locator(".made-link:focus").waitFor();
      const code = (await page.locator(".qr").boundingBox())!;
      expect(code.y).toBeGreaterThanOrEqual(0);
      expect(code.y + code.height).toBeLessThanOrEqual(page.viewportSize()!.height);
      const link = await page.locator("[aria-labelledby=devices-title] [aria-label=Link]").inputValue();
      expect(await accessibilityFaults(page)).toEqual([]);

      // In the same browser, it does not take the place of the key that can do more.
      await page.keyboard.press("Escape");
      const before = await userOf(page);
      await page.goto(link);
      await page.getByText("This browser has this account already").waitFor();
      await page.keyboard.press("Escape");
      expect(await userOf(page)).toEqual(before);
      await page.click("header button");

      await using phone = await openPage(browser, link);
      await phone.page.getByText("has a key of the account “Me”").waitFor();
      expect(await phone.page.evaluate(() => [location.hash, localStorage.length])).toEqual(["", 0]);
      expect(await accessibilityFaults(phone.page)).toEqual([]);
      await button(phone.page, "Use it here").click();
      await phone.page.locator(".row-title", { hasText: "delta" }).waitFor();
      await phone.page.click("header button");
      await phone.page.getByText("This device may record and share, but not manage devices.").waitFor();
      await phone.page.keyboard.press("Escape");

      await page.click('[aria-label="Revoke Ann\'s phone"]');
      await notice(page, "can no longer use this account");
      await choose(phone.page, [wavFile("kept here.wav")]);
      await phone.page.getByText("The key of this device is no longer valid. Nothing is lost").waitFor();
      expect(await accessibilityFaults(phone.page)).toEqual([]);

      // With another key, the file goes on.
      await button(phone.page, "Enter a key").click();
      await phone.page.fill("dialog input[type=password]", (await userOf(page)).token);
      await button(phone.page, "Open account").click();
      await phone.page.keyboard.press("Escape");
      await stored(phone.page);
    });

    it("is told what an insecure address cannot do, and can still send, play and copy", async () => {
      const insecure = await openBrowserWithMicrophone(undefined, ["--host-resolver-rules=MAP studio.test 127.0.0.1"]);
      try {
        const url = service.url.replace("localhost", "studio.test");
        await using opened = await openPage(insecure, url);
        const { page, complaints } = opened;
        await page.getByText("Recording needs https").waitFor();
        expect(await page.locator("#record").isDisabled()).toBe(true);
        await choose(page, [wavFile("epsilon.wav")]);
        await stored(page);
        await button(page, "Copy").click();
        await notice(page, "The link is copied.");
        expect(await accessibilityFaults(page)).toEqual([]);
        await page.click("[data-row-action=play]");
        await page.locator(".player [aria-label^=Pause]").waitFor();
        expect(complaints.filter((text) => !/untrustworthy|Origin-Agent-Cluster/.test(text))).toEqual([]);
      } finally {
        await insecure.close();
      }
    });

    it("is told how to allow a blocked microphone, and that there is none", async () => {
      const blocked = await openBrowserWithMicrophone(undefined, ["--use-fake-device-for-media-stream"]);
      try {
        await using opened = await openPage(blocked, service.url, { permissions: [] });
        await opened.page.click("#record");
        await opened.page.getByText("The microphone is blocked").waitFor();
        expect(await accessibilityFaults(opened.page)).toEqual([]);
        // Nothing is recorded, so nobody has an account.
        expect(await opened.page.evaluate(() => localStorage.length)).toBe(0);
      } finally {
        await blocked.close();
      }
      const without = await openBrowserWithMicrophone(undefined, ["--use-fake-ui-for-media-stream"]);
      try {
        await using opened = await openPage(without, service.url);
        await opened.page.click("#record");
        await opened.page.getByText("No microphone was found").waitFor();
        expect(await opened.page.locator("#record").isEnabled()).toBe(true);
      } finally {
        await without.close();
      }
    });

    it("learns before a byte is sent what the service does not take, and that recordings are private", async () => {
      const limits = { MAX_DURATION_SECONDS: "60", VISIBILITY: "PRIVATE" };
      await using strict = await startService({ DATABASE_URL: service.databaseUrl, ...limits });
      await using opened = await openPage(browser, strict.url);
      const { page } = opened;
      await page.getByText("and 60 seconds each.").waitFor();
      await choose(page, [wavFile("long.wav", tone(61)), wavFile("short.wav")]);
      await page.getByText("This file is 1:01 long. The service takes at most 60 seconds.").waitFor();
      await page.getByText("Stored. Only you can open it.").waitFor();
      expect(await accessibilityFaults(page)).toEqual([]);
      await page.locator(".queue-row.stored").getByRole("button", { name: "Share short" }).click();
      await page.getByText("This recording is private.").waitFor();
    });

    it("needs an invitation where the operator wants one, and the take waits for it", async () => {
      await using invited = await startService({ DATABASE_URL: service.databaseUrl, REGISTRATION: "closed" });
      const ann = await client.createUser("Ann");
      await using opened = await openPage(browser, invited.url);
      const { page } = opened;
      await choose(page, [wavFile("zeta.wav")]);
      await page.getByText("You need an invitation").waitFor();
      expect(await accessibilityFaults(page)).toEqual([]);
      await page.fill("dialog input[type=password]", ann.token);
      await button(page, "Open account").click();
      await stored(page);
    });

    it.each([
      ["light", 320],
      ["dark", 390],
      ["light", 1280],
    ] as const)("finds everything readable in %s, %d px wide, without an axe fault", async (colorScheme, width) => {
      await using opened = await openPage(browser, service.url, { colorScheme, viewport: { width, height: 800 } });
      const { page, complaints } = opened;
      await choose(page, [
        wavFile("A title that is longer than every line, because a studio by the sea has named it, take 3.wav"),
        wavFile("quiet.wav", sineWav({ seconds: 1, sampleRateHz: 8000, channels: 1, amplitude: 0.002 })),
        wavFile("loud.wav", sineWav({ seconds: 1, sampleRateHz: 8000, channels: 1, amplitude: 1.5 })),
      ]);
      await stored(page, 3);
      await page.locator("[data-row-action=play]").first().click();
      await page.locator(".player").waitFor();
      const isTooWide = async () =>
        await page.evaluate(() =>
          [document.documentElement, ...document.querySelectorAll("dialog")].some(
            (element) => element.scrollWidth > element.clientWidth,
          ),
        );
      // What has not been played is drawn in the colour of the theme.
      const [r, g, b] = colorScheme === "light" ? [127, 145, 143] : [117, 135, 138];
      const bars = await page
        .locator(".row .wave")
        .last()
        .evaluate((canvas: HTMLCanvasElement) => {
          const { data } = canvas.getContext("2d")!.getImageData(0, canvas.height / 2, 1, 1);
          return [...data];
        });
      expect(bars).toEqual([r, g, b, 255]);
      expect([await accessibilityFaults(page), await isTooWide()]).toEqual([[], false]);
      // Each row has its buttons in one line, and what can be touched is large enough for a finger.
      const faults = await page.evaluate(() => {
        const boxOf = (element: Element) => (element.closest("label") ?? element).getBoundingClientRect();
        const controls = [...document.querySelectorAll("button, select, input, summary, a, [role=slider]")].filter(
          (element) => boxOf(element).height > 1,
        );
        const isSmall = (element: Element) => boxOf(element).height < 44 || boxOf(element).width < 44;
        const lines = [...document.querySelectorAll(".row-actions")].filter(({ clientHeight }) => clientHeight > 60);
        return [...controls.filter(isSmall), ...lines].map(({ outerHTML }) => outerHTML);
      });
      expect(faults).toEqual([]);
      await page.locator("footer button").press("Enter");
      await page.getByText("Single keys work when no button").waitFor();
      expect([await accessibilityFaults(page), await isTooWide()]).toEqual([[], false]);
      await page.keyboard.press("Escape");
      await page.click("header button");
      await page.fill("[placeholder='My phone']", "A phone");
      await button(page, "Create a link for it").click();
      await page.locator(".qr").waitFor();
      expect([await accessibilityFaults(page), await isTooWide()]).toEqual([[], false]);
      expect(complaints).toEqual([]);
    });
  });
});
