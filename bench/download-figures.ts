import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ApiClient } from "../test/support/api-client.ts";
import { median, type Figure } from "./support/figure.ts";
import { startNginx, startNodeFileServer } from "./support/file-servers.ts";
import { forgetPeak, peakResidentBytes, residentBytes } from "./support/process-usage.ts";
import { download } from "./support/socket-client.ts";
import { uploadFile } from "./support/upload-client.ts";
import { secondsFor, type Workbench } from "./support/workbench.ts";

const megabyte = 1e6;
const rangeBytes = 64 * 1024;

/** A link compared with servers that send the same MP3 from a file, all with the same client. */
export async function downloadFigures(bench: Workbench): Promise<Figure[]> {
  const minutes = bench.quick ? 10 : 60;
  const runs = bench.quick ? 9 : 15;
  const url = await storeRecord(bench, minutes * 60);
  const mp3 = join(bench.folder, "served.mp3");
  const oneClientBytes = await peakOverIdleBytes(bench, url, 1);
  const eightClientsBytes = await peakOverIdleBytes(bench, url, 8);

  await using service = await bench.startService();
  const link = relocated(url, service.url);
  const whole = Buffer.from(await (await fetch(link)).arrayBuffer());
  await writeFile(mp3, whole);
  const servers: { name: string; url: string }[] = [];
  await using node = await startNodeFileServer(mp3);
  servers.push({ name: "node:http and createReadStream", url: node.url });
  await using nginx = await startNginx(mp3, bench.folder);
  if (nginx) servers.push({ name: "nginx", url: nginx.url });

  const speeds = new Map<string, number[]>();
  const firstBytesMs = new Map<string, number[]>();
  for (let run = 0; run < runs; run++) {
    for (const { url } of [{ url: link }, ...servers]) {
      const { bytes, seconds, firstByteMs } = await download(url);
      if (run === 0) continue;
      speeds.set(url, [...(speeds.get(url) ?? []), bytes / megabyte / seconds]);
      firstBytesMs.set(url, [...(firstBytesMs.get(url) ?? []), firstByteMs]);
    }
  }
  const middle = Math.floor(whole.length / 2);
  const startMs: number[] = [];
  const middleMs: number[] = [];
  for (let run = 0; run < 3 * runs; run++) {
    startMs.push((await download(link, { start: 0, end: rangeBytes - 1 })).seconds * 1000);
    middleMs.push((await download(link, { start: middle, end: middle + rangeBytes - 1 })).seconds * 1000);
  }

  const eightSeconds = await secondsFor(8, 8, async () => await download(link));

  const what = `download of ${minutes} min (${(whole.length / megabyte).toFixed(0)} MB)`;
  const speed = median(speeds.get(link)!);
  return [
    {
      name: `${what}: first byte`,
      value: median(firstBytesMs.get(link)!),
      unit: "ms",
      goal: { of: "value", atMost: 10 },
    },
    ...servers.map(({ name, url }): Figure => ({
      name: `${what}: one client`,
      value: speed,
      unit: "MB/s",
      reference: { name, value: median(speeds.get(url)!) },
      goal: name === "nginx" ? { of: "ratio", atLeast: 0.33 } : { of: "value", atLeast: 312 },
    })),
    {
      name: `${what}: 64 KiB from its middle`,
      value: median(middleMs),
      unit: "ms",
      reference: { name: "64 KiB from its start", value: median(startMs) },
      goal: { of: "ratio", atMost: 1.1 },
    },
    { name: `${what}: 8 clients together`, value: (8 * whole.length) / megabyte / eightSeconds, unit: "MB/s" },
    {
      name: `${what}: peak memory over idle, one client`,
      value: oneClientBytes / megabyte,
      unit: "MB",
      goal: { of: "value", atMost: 32 },
    },
    {
      name: `${what}: peak memory over idle, 8 clients`,
      value: eightClientsBytes / megabyte,
      unit: "MB",
      goal: { of: "value", atMost: 64 },
    },
  ];
}

/** The memory that the first downloads add to a newly started service. */
async function peakOverIdleBytes(bench: Workbench, url: string, clients: number): Promise<number> {
  await using service = await bench.startService();
  const link = relocated(url, service.url);
  const idleBytes = await residentBytes(service.pid);
  await forgetPeak(service.pid);
  await secondsFor(clients, clients, async () => await download(link));
  return (await peakResidentBytes(service.pid)) - idleBytes;
}

/** Uploads a recording and returns its link. */
async function storeRecord(bench: Workbench, seconds: number): Promise<string> {
  await using service = await bench.startService();
  const user = await new ApiClient(service.url).createUser();
  const { url } = await uploadFile(service.url, user, await bench.music(seconds));
  return url;
}

/** The same link, at another process of the service. */
function relocated(link: string, service: string): string {
  const { pathname, search } = new URL(link);
  return `${service}${pathname}${search}`;
}
