/// <reference lib="dom" />
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { needs } from "./support/needs.ts";
import { button, notice, openBrowserWithMicrophone, openPage, stored } from "./support/page.ts";
import { startService, type TestService } from "./support/service.ts";
import { startTcpProxy } from "./support/tcp-proxy.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

describe("a take that travels while it is made", () => {
  needs("Chromium", () => {
    let service: TestService;
    let browser: Browser;
    let folder: string;

    beforeAll(async () => {
      service = await startService();
      folder = await mkdtemp(join(tmpdir(), "take-test-"));
      const microphone = join(folder, "tone.wav");
      await writeFile(microphone, sineWav({ seconds: 30, sampleRateHz: 44_100, channels: 1, amplitude: 0.2 }));
      browser = await openBrowserWithMicrophone(microphone);
    });

    afterAll(async () => {
      await browser?.close();
      await service?.[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    });

    /** The uploads that the service has. */
    const uploads = async () =>
      (
        await service.server.database.pool.query<{ offset: number; epoch: number; state: string | null }>(
          `select offset_bytes::int as offset, epoch, audio_record.state
           from resumable_upload left join audio_record on record_id = audio_record.id order by resumable_upload.created_at`,
        )
      ).rows;

    /** Waits until so much of an upload has arrived. */
    const hasArrived = async (bytes: number, index: number): Promise<void> => {
      const arrived = (all: readonly { offset: number }[]): number => all[index]?.offset ?? 0;
      expect(arrived(await until(uploads, (all) => arrived(all) > bytes))).toBeGreaterThan(bytes);
    };

    const record = async (page: Page): Promise<void> => {
      await page.click("#record");
      await page.getByText("0 samples lost").waitFor();
    };

    it("is at the service before Stop, also at 2 Mbit/s, all but its last second, and is one recording", async () => {
      await using proxy = await startTcpProxy(service.url, { bytesPerSecond: 250_000 });
      await using opened = await openPage(browser, proxy.url);
      const { page, complaints } = opened;
      const sizes: number[] = [];
      page.on("request", (request) => {
        if (request.method() === "PATCH") sizes.push(Number(request.headers()["upload-offset"]));
      });
      await record(page);
      await page.getByText("It is sent while you record.").waitFor();
      await hasArrived(200_000, 0);
      const sentBefore = proxy.sentBytes;
      await page.click("#record");
      await stored(page);
      expect(proxy.sentBytes - sentBefore).toBeLessThan(sentBefore);
      const [upload] = (await uploads()).slice(-1);
      expect(upload).toMatchObject({ state: "ready", epoch: 2 }); // taken up once, and completed
      // What the queue sent was the end.
      expect(upload!.offset - sizes.at(-1)!).toBeLessThan(upload!.offset / 2);
      expect(sizes.length).toBeGreaterThan(3);
      const link = await page.locator(".queue-row input").inputValue();
      expect((await fetch(link, { headers: { accept: "text/html" } })).status).toBe(200);
      expect(complaints).toEqual([]);
    });

    it("is sent after Stop if the network was away, and only what is missing", async () => {
      await using opened = await openPage(browser, service.url);
      const { page, context } = opened;
      const before = (await uploads()).length;
      await record(page);
      await hasArrived(50_000, before);
      await context.setOffline(true);
      await page.getByText("It is sent after you stop.").waitFor();
      await page.click("#record");
      await page.getByText("cannot be reached").waitFor();
      await context.setOffline(false);
      await stored(page);
      expect((await uploads()).slice(before)).toEqual([expect.objectContaining({ state: "ready" })]);
    });

    it("is taken back from the service when it is thrown away", async () => {
      await using opened = await openPage(browser, service.url);
      const { page } = opened;
      const before = (await uploads()).length;
      await record(page);
      await hasArrived(50_000, before);
      await button(page, "Discard").click();
      await notice(page, "The recording is discarded.");
      expect(await until(uploads, (all) => all.length === before)).toHaveLength(before);
    });
  });
});
