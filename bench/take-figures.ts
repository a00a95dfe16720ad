import { open } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { ApiClient, type Credentials } from "../test/support/api-client.ts";
import { median, type Figure } from "./support/figure.ts";
import { cpuSecondsWithChildren } from "./support/process-usage.ts";
import { uploadFile } from "./support/upload-client.ts";
import type { Workbench } from "./support/workbench.ts";

const takes = 50;

/** Bytes of a second of the bench's music. */
const secondBytes = 44_100 * 4;

/** Many takes that are sent a second at a time while they are made, against as many uploads in one request at that speed. */
export async function takeFigures(bench: Workbench): Promise<Figure[]> {
  const wav = await bench.music(bench.quick ? 20 : 60);
  await using service = await bench.startService();
  const client = new ApiClient(service.url);
  const users = await Promise.all(Array.from({ length: takes / 5 }, async () => await client.createUser()));
  const postgres = bench.postgresPid;
  const cpu = async () => ({
    service: await cpuSecondsWithChildren(service.pid),
    postgres: await cpuSecondsWithChildren(postgres),
  });
  const cost = async (send: (user: Credentials) => Promise<number>) => {
    const before = await cpu();
    const waits = await Promise.all(
      Array.from({ length: takes }, async (_, i) => {
        await delay((i * 1000) / takes);
        return await send(users[i % users.length]!);
      }),
    );
    const after = await cpu();
    return { service: after.service - before.service, postgres: after.postgres - before.postgres, waits };
  };
  const plain = await cost(
    async (user) => (await uploadFile(service.url, user, wav, secondBytes)).lastByteToAnswerSeconds,
  );
  const live = await cost(async (user) => await sendWhileMade(client, user, wav));
  console.error(
    live.waits
      .map((w, i) => [w.toFixed(2), i])
      .toSorted((a, b) => +a[0]! - +b[0]!)
      .slice(-16)
      .join(" "),
    "|",
    plain.waits
      .toSorted((a, b) => a - b)
      .slice(-10)
      .map((w) => w.toFixed(2))
      .join(" "),
  );
  const what = `${takes} takes sent a second at a time`;
  const reference = `in one request each, at that speed`;
  return [
    {
      name: `${what}: CPU of service, encoders and PostgreSQL`,
      value: live.service + live.postgres,
      unit: "s",
      reference: { name: reference, value: plain.service + plain.postgres },
      goal: { of: "ratio", atMost: 1.3 },
    },
    {
      name: `${what}: CPU of service and encoders`,
      value: live.service,
      unit: "s",
      reference: { name: reference, value: plain.service },
    },
    {
      name: `${what}: last second to recording, median`,
      value: median(live.waits),
      unit: "s",
      reference: { name: reference, value: median(plain.waits) },
    },
    {
      name: `${what}: last second to recording, worst`,
      value: Math.max(...live.waits),
      unit: "s",
      reference: { name: reference, value: Math.max(...plain.waits) },
      goal: { of: "value", atMost: 1 },
    },
  ];
}

/** Sends a take in portions of a second, each when its second is over. Returns the time from the last one to its answer, in seconds. */
async function sendWhileMade(client: ApiClient, user: Credentials, wav: string): Promise<number> {
  const { data } = await client.run('mutation { startUpload(fileName: "take.wav") { upload { url } } }', {}, user);
  const { url } = data.startUpload.upload;
  await using file = await open(wav);
  const { size } = await file.stat();
  const started = performance.now();
  for (let at = 0, seconds = 1; ; at += secondBytes, seconds++) {
    const bytes = Buffer.alloc(Math.min(secondBytes, size - at));
    await file.read(bytes, 0, bytes.length, at);
    await delay(Math.max(1, seconds * 1000 - (performance.now() - started)));
    const isLast = at + bytes.length === size;
    const sent = performance.now();
    const answer = await fetch(url, {
      method: "PATCH",
      headers: {
        "content-type": "application/offset+octet-stream",
        "upload-offset": String(at),
        ...(isLast && { "upload-length": String(size) }),
      },
      body: new Uint8Array(bytes),
    });
    const text = await answer.text();
    if (answer.status !== (isLast ? 200 : 204)) throw new Error(`Refused with ${answer.status}: ${text}`);
    if (isLast) return (performance.now() - sent) / 1000;
  }
}
