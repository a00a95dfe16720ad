import { signal } from "@preact/signals";
import { startWorker } from "../trusted-types.ts";
import { randomUuid } from "../uuid.ts";
import type { CaptureOrder, TakeOrder, TakeReport } from "./capture.ts";
import captureUrl from "./capture.worklet.ts?worker&url";
import { choices, listMicrophones, openMicrophone } from "./microphone.ts";
import { findTake, lockOf, takeName, type Take } from "./takes.ts";
import takeWorkerUrl from "./take.worker.ts?worker&url";

/** Why there is no take. */
export type Problem =
  "insecure" | "unsupported" | "denied" | "no microphone" | "microphone in use" | "no audio" | "no room";

/** What a running take shows. */
export interface Level {
  readonly seconds: number;
  /** Largest magnitude of the last tenth of a second, 1 is full scale. */
  readonly peak: number;
  /** Samples at full scale, and frames that were lost, since the beginning. */
  readonly clipped: number;
  readonly lost: number;
  /** For how long there has been nothing but silence, in seconds. */
  readonly silentSeconds: number;
}

const nothing: Level = { seconds: 0, peak: 0, clipped: 0, lost: 0, silentSeconds: 0 };

/** Below this, 66 dB under full scale, a microphone gives nothing that somebody wants to hear. */
const silence = 0.0005;

export const phase = signal<"idle" | "asking" | "recording" | "paused" | "stopping">("idle");
export const problem = signal<Problem | undefined>(undefined);
export const level = signal<Level>(nothing);
/** A remark about the running take: another microphone, an interruption. */
export const remark = signal("");
/** What the microphone really gives, such as `48 kHz, mono, unprocessed`. */
export const format = signal("");

type Release = () => unknown;

/** Releases what was opened, last first. */
async function releaseAll(opened: Release[]): Promise<void> {
  for (const release of opened.splice(0).toReversed()) await Promise.resolve(release()).catch(() => {});
}

interface Running {
  readonly name: string;
  readonly node: AudioWorkletNode;
  readonly worker: Worker;
  readonly closed: Promise<void>;
  readonly release: () => Promise<void>;
}

let running: Running | undefined;

/** What keeps this page from recording at all, before anybody asks for a microphone. */
export function lasting(): Problem | undefined {
  if (!isSecureContext) return "insecure";
  const hasAll =
    typeof AudioWorkletNode === "function" && (navigator.mediaDevices as MediaDevices | undefined) !== undefined;
  return hasAll ? undefined : "unsupported";
}

/** Begins a take. Call it in a click: browsers start audio only there. What goes wrong is in {@link problem}. */
export async function beginTake(): Promise<void> {
  if (phase.value !== "idle") return;
  problem.value = lasting();
  if (problem.value) return;
  phase.value = "asking";
  remark.value = "";
  level.value = nothing;
  const opened: Release[] = [];
  try {
    const context = new AudioContext();
    opened.push(async () => await context.close());
    const resumed = context.resume(); // in the click
    const { stream, isOther } = await openMicrophone();
    opened.push(() => stream.getTracks().forEach((track) => track.stop()));
    // Without a sound device, Firefox never resolves it.
    if (!(await within(3000, resumed))) throw new DOMException("The audio does not start.", "InvalidStateError");
    await context.audioWorklet.addModule(captureUrl);
    running = await start(context, stream, opened);
    if (isOther) remark.value = "The chosen microphone is not there. Another one records.";
    const { processing, stereo } = choices.value;
    const kHz = Number((context.sampleRate / 1000).toFixed(1));
    format.value = `${kHz} kHz, ${stereo ? "stereo" : "mono"}, ${processing ? "processed" : "unprocessed"}`;
    phase.value = "recording";
    void listMicrophones();
  } catch (error) {
    await releaseAll(opened);
    phase.value = "idle";
    problem.value = problemOf(error);
  }
}

async function start(context: AudioContext, stream: MediaStream, opened: Release[]): Promise<Running> {
  const channels = choices.value.stereo ? 2 : 1;
  const sampleRateHz = context.sampleRate;
  const name = takeName(randomUuid());
  opened.push(await holdLock(name));
  const worker = startWorker(takeWorkerUrl);
  opened.push(() => worker.terminate());
  const { port1, port2 } = new MessageChannel();
  const reports = reportsOf(worker, sampleRateHz);
  tell(worker, { name, sampleRateHz, channels, source: port2 }, [port2]);
  await reports.opened;
  // Asking the microphone for one channel is not enough: the node mixes down.
  const options = { numberOfOutputs: 0, channelCount: channels, channelCountMode: "explicit" } as const;
  const node = new AudioWorkletNode(context, "capture", options);
  order(node, { sink: port1, channels }, [port1]);
  context.createMediaStreamSource(stream).connect(node);
  opened.push(await keepScreenOn());
  const [track] = stream.getAudioTracks();
  track?.addEventListener("ended", () => {
    remark.value = "The microphone went away. The take up to there is kept.";
    onMicrophoneLost.call?.();
  });
  context.addEventListener("statechange", () => {
    if (phase.value !== "recording" && phase.value !== "paused") return;
    if (context.state === "suspended") void context.resume();
    if (context.state !== "running") remark.value = "Another app interrupted the recording. It goes on when it can.";
  });
  return { name, node, worker, closed: reports.closed, release: async () => await releaseAll(opened) };
}

/** Called when the microphone ends by itself. The page sets it: it stops the take as the button does. */
export const onMicrophoneLost: { call?: () => void } = {};

function reportsOf(worker: Worker, sampleRateHz: number): { opened: Promise<void>; closed: Promise<void> } {
  const opened = Promise.withResolvers<void>();
  const closed = Promise.withResolvers<void>();
  closed.promise.catch(() => {}); // it may fail before anybody waits for it
  worker.addEventListener("message", ({ data }: MessageEvent<TakeReport>) => {
    if (data.kind === "open") opened.resolve();
    else if (data.kind === "closed") closed.resolve();
    else if (data.kind === "level") showLevel(data, sampleRateHz);
    else {
      opened.reject(new DOMException(data.message, "QuotaExceededError"));
      closed.reject(new Error(data.message));
      if (phase.value === "recording" || phase.value === "paused") {
        problem.value = "no room";
        onMicrophoneLost.call?.();
      }
    }
  });
  return { opened: opened.promise, closed: closed.promise };
}

function showLevel({ frames, peak, clipped, lost }: TakeReport & { kind: "level" }, sampleRateHz: number): void {
  const before = level.value;
  const seconds = frames / sampleRateHz;
  level.value = {
    seconds,
    peak,
    clipped: before.clipped + clipped,
    lost: before.lost + lost,
    silentSeconds: peak > silence ? 0 : before.silentSeconds + (seconds - before.seconds),
  };
}

/** Pauses the take, or lets it go on: it is one recording without the pause. */
export function pauseTake(): void {
  if (!running || (phase.value !== "recording" && phase.value !== "paused")) return;
  const paused = phase.value === "recording";
  order(running.node, { paused });
  phase.value = paused ? "paused" : "recording";
}

/** Ends the take. Resolves with it when it is complete on this device; undefined if there is no sound in it. */
export async function endTake(): Promise<Take | undefined> {
  if (!running || (phase.value !== "recording" && phase.value !== "paused")) return undefined;
  const { name, node, worker, closed, release } = running;
  running = undefined;
  phase.value = "stopping";
  try {
    order(node, { stop: true });
    // The audio thread stands still while a phone call interrupts it.
    if (!(await within(2000, closed).catch(() => true))) {
      tell(worker, { close: true });
      await within(2000, closed).catch(() => {});
    }
  } finally {
    await release();
    phase.value = "idle";
    level.value = nothing;
  }
  return await findTake(name);
}

function order(node: AudioWorkletNode, message: CaptureOrder, transfer: Transferable[] = []): void {
  node.port.postMessage(message, transfer);
}

function tell(worker: Worker, message: TakeOrder, transfer: Transferable[] = []): void {
  worker.postMessage(message, transfer);
}

function problemOf(error: unknown): Problem {
  const name = error instanceof DOMException ? error.name : "";
  if (name === "NotAllowedError" || name === "SecurityError") return "denied";
  if (name === "NotFoundError") return "no microphone";
  if (name === "NotReadableError" || name === "AbortError") return "microphone in use";
  if (name === "QuotaExceededError") return "no room";
  return "no audio";
}

async function within(ms: number, promise: Promise<void>): Promise<boolean> {
  const late = new Promise<false>((resolve) => setTimeout(() => resolve(false), ms));
  return await Promise.race([promise.then(() => true), late]);
}

/** Keeps other tabs from offering the take as a lost one. */
async function holdLock(name: string): Promise<Release> {
  const locks = navigator.locks as LockManager | undefined;
  const released = Promise.withResolvers<void>();
  if (locks) {
    const held = Promise.withResolvers<void>();
    void locks.request(lockOf(name), async () => {
      held.resolve();
      await released.promise;
    });
    await held.promise;
  }
  return () => released.resolve();
}

/** Phones would stop the microphone with the screen. The lock ends when the page is hidden, so it is taken again. */
async function keepScreenOn(): Promise<Release> {
  let lock: WakeLockSentinel | undefined;
  const take = async (): Promise<void> => {
    const { wakeLock } = navigator as { wakeLock?: WakeLock };
    if (document.visibilityState === "visible") lock = await wakeLock?.request("screen").catch(() => undefined);
  };
  const again = (): void => void take();
  document.addEventListener("visibilitychange", again);
  await take();
  return () => {
    document.removeEventListener("visibilitychange", again);
    void lock?.release();
  };
}
