import { availableParallelism } from "node:os";
import { join } from "node:path";
import { ApiClient } from "../test/support/api-client.ts";
import { median, type Figure } from "./support/figure.ts";
import { cpuSecondsWithChildren, forgetPeak, peakResidentBytes, residentBytes } from "./support/process-usage.ts";
import { uploadFile } from "./support/upload-client.ts";
import { secondsFor, type Workbench } from "./support/workbench.ts";

const megabyte = 1e6;
const slowClientBytesPerSecond = 12.5e6;

/** Long recordings over loopback: time, CPU and memory, each with a newly started service. */
export async function longRecordingFigures(bench: Workbench): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const seconds of bench.quick ? [60, 600] : [60, 600, 3600]) {
    const wav = await bench.music(seconds);
    const mp3 = join(bench.folder, "bare.mp3");
    const isLong = seconds > 60;
    const bare = isLong ? await bench.ffmpeg.convert(wav, mp3) : undefined;
    await using service = await bench.startService();
    const user = await new ApiClient(service.url).createUser();
    const idleBytes = await residentBytes(service.pid);
    const cpuBefore = await cpuSecondsWithChildren(service.pid);
    await forgetPeak(service.pid);
    const upload = await uploadFile(service.url, user, wav);
    const cpu = (await cpuSecondsWithChildren(service.pid)) - cpuBefore;
    const peakBytes = await peakResidentBytes(service.pid);

    const what = `${seconds / 60} min over loopback`;
    const isHour = seconds === 3600;
    if (bare) {
      const name = "bare ffmpeg";
      figures.push({
        name: `${what}: uploadRecord`,
        value: upload.seconds,
        unit: "s",
        reference: { name, value: bare.seconds },
        ...(isHour && { goal: { of: "ratio", atMost: 0.6 } }),
      });
      figures.push({
        name: `${what}: CPU of service and encoders`,
        value: cpu,
        unit: "s",
        reference: { name, value: bare.cpuSeconds },
        ...(isHour && { goal: { of: "ratio", atMost: 0.88 } }),
      });
    }
    figures.push({
      name: `${what}: peak memory of the service over idle`,
      value: (peakBytes - idleBytes) / megabyte,
      unit: "MB",
      goal: { of: "value", atMost: 48 },
    });
  }
  return figures;
}

/** A client at 100 Mbit/s: shows whether the conversion overlaps with the arrival. */
export async function slowClientFigures(bench: Workbench): Promise<Figure[]> {
  await using service = await bench.startService();
  const user = await new ApiClient(service.url).createUser();
  const figures: Figure[] = [];
  for (const [seconds, atMost] of [
    [60, 0.5],
    [600, 0.3],
  ] as const) {
    const upload = await uploadFile(service.url, user, await bench.music(seconds), slowClientBytesPerSecond);
    const what = `${seconds / 60} min at 12.5 MB/s`;
    figures.push(
      {
        name: `${what}: last byte to answer`,
        value: upload.lastByteToAnswerSeconds,
        unit: "s",
        goal: { of: "value", atMost },
      },
      { name: `${what}: last byte later than the link allows`, value: upload.heldBackSeconds, unit: "s" },
    );
  }
  return figures;
}

/** Short clips, first one after the other and then many at once, and several recordings at once. */
export async function manyRecordingsFigures(bench: Workbench): Promise<Figure[]> {
  const clip = await bench.music(5);
  const minute = await bench.music(60);
  const cores = availableParallelism();
  await using service = await bench.startService();
  const client = new ApiClient(service.url);
  const users = await Promise.all(Array.from({ length: 8 }, async () => await client.createUser()));
  const convert = async (wav: string, client: number) =>
    await bench.ffmpeg.convert(wav, join(bench.folder, `bare-${client}.mp3`));
  const upload = async (wav: string, client: number) => await uploadFile(service.url, users[client]!, wav);

  for (let i = 0; i < 5; i++) await upload(clip, 0);
  const oneByOne = async (wav: string, count: number) => {
    const bareMs: number[] = [];
    const uploadMs: number[] = [];
    for (let i = 0; i < (bench.quick ? 10 : count); i++) {
      bareMs.push((await convert(wav, 0)).seconds * 1000);
      uploadMs.push((await upload(wav, 0)).seconds * 1000);
    }
    return { value: median(uploadMs), unit: "ms", reference: { name: "bare ffmpeg", value: median(bareMs) } } as const;
  };
  const shortest = await oneByOne(await bench.music(0.1), 100);
  const short = await oneByOne(clip, 30);
  const clips = 40;
  const inTurns = async (wav: string, count: number) => {
    const bareSeconds: number[] = [];
    const uploadSeconds: number[] = [];
    for (let round = 0; round < (bench.quick ? 1 : 3); round++) {
      bareSeconds.push(await secondsFor(count, cores, async (_, worker) => await convert(wav, worker)));
      uploadSeconds.push(await secondsFor(count, 8, async (_, worker) => await upload(wav, worker)));
    }
    return { bare: median(bareSeconds), uploaded: median(uploadSeconds) };
  };
  const many = await inTurns(clip, clips);
  const minutes = await inTurns(minute, 8);
  return [
    { name: "0.1 s clip, one client: uploadRecord", ...shortest, goal: { of: "ratio", atMost: 0.5 } },
    { name: "5 s clip, one client: uploadRecord", ...short, goal: { of: "ratio", atMost: 0.65 } },
    {
      name: "5 s clips, 8 clients",
      value: clips / many.uploaded,
      unit: "/s",
      reference: { name: `bare ffmpeg, ${cores} at a time`, value: clips / many.bare },
      goal: { of: "ratio", atLeast: 0.85 },
    },
    {
      name: "8 recordings of 60 s at once",
      value: minutes.uploaded,
      unit: "s",
      reference: { name: `8 bare ffmpeg, ${cores} at a time`, value: minutes.bare },
      goal: { of: "ratio", atMost: 1.1 },
    },
  ];
}
