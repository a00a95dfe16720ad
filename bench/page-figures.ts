import { setTimeout as delay } from "node:timers/promises";
import { openBrowserWithMicrophone, openPage } from "../test/support/page.ts";
import { findChromium } from "../test/support/browser.ts";
import type { Browser } from "playwright-core";
import { startTcpProxy, type TcpProxy } from "../test/support/tcp-proxy.ts";
import { median, type Figure } from "./support/figure.ts";
import type { Workbench } from "./support/workbench.ts";

/** 2 Mbit/s, a slow link upwards. */
const linkBytesPerSecond = 250_000;
const takeSeconds = 15;
const takes = 5;

/**
 * From Stop to a link that plays, for a take that the page records in Chromium, behind a slow link and directly. What the
 * browser and the service need by themselves is in both.
 */
export async function pageFigures(bench: Workbench): Promise<Figure[]> {
  if (findChromium() === undefined) {
    console.error("page: left out, because there is no Chromium");
    return [];
  }
  await using service = await bench.startService();
  await using slow = await startTcpProxy(service.url, { bytesPerSecond: linkBytesPerSecond });
  await using fast = await startTcpProxy(service.url);
  const browser = await openBrowserWithMicrophone(await bench.music(30));
  try {
    const [ofSlow, ofFast]: [Take[], Take[]] = [[], []];
    for (let take = 0; take < takes; take++) {
      ofSlow.push(await recordTake(browser, slow));
      ofFast.push(await recordTake(browser, fast));
    }
    const [slowSeconds, fastSeconds] = [ofSlow, ofFast].map((all) => all.map(({ seconds }) => seconds)) as [
      number[],
      number[],
    ];
    const what = `page in Chromium: ${takeSeconds} s at 2 Mbit/s, Stop to a link that plays`;
    const reference = "without a limit";
    return [
      {
        name: `${what}, median`,
        value: median(slowSeconds),
        unit: "s",
        reference: { name: reference, value: median(fastSeconds) },
        goal: { of: "value", atMost: 1 },
      },
      {
        name: `${what}, worst of ${takes}`,
        value: Math.max(...slowSeconds),
        unit: "s",
        reference: { name: reference, value: Math.max(...fastSeconds) },
      },
      {
        name: "the same: part of its bytes that had left before Stop",
        value: median(ofSlow.map(({ partBeforeStop }) => partBeforeStop)) * 100,
        unit: "%",
      },
    ];
  } finally {
    await browser.close();
  }
}

interface Take {
  readonly seconds: number;
  readonly partBeforeStop: number;
}

async function recordTake(browser: Browser, proxy: TcpProxy): Promise<Take> {
  await using opened = await openPage(browser, proxy.url);
  const { page } = opened;
  const before = proxy.sentBytes;
  await page.click("#record");
  await page.getByText("0 samples lost").waitFor();
  await delay(takeSeconds * 1000);
  const atStop = proxy.sentBytes;
  const stopped = performance.now();
  await page.click("#record");
  const link = await page.locator(".queue-row.stored input").inputValue();
  const { status } = await fetch(link, { headers: { accept: "audio/mpeg" } });
  const seconds = (performance.now() - stopped) / 1000;
  if (status !== 200) throw new Error(`The link does not play: ${status}`);
  return { seconds, partBeforeStop: (atStop - before) / (proxy.sentBytes - before) };
}
