import { signal } from "@preact/signals";
import { claim } from "../locks.ts";
import { say } from "../look/notices.ts";
import { startWorker } from "../trusted-types.ts";
import { randomUuid } from "../uuid.ts";
import type { CaptureOrder, TakeOrder, TakeReport } from "./capture.ts";
import captureUrl from "./capture.worklet.ts?worker&url";
import { choices, listMicrophones, openMicrophone } from "./microphone.ts";
import { findTake, takeName, type Take } from "./takes.ts";
import takeWorkerUrl from "./take.worker.ts?worker&url";

/** Why there is no take. */
export type Problem =
  "insecure" | "unsupported" | "denied" | "no microphone" | "microphone in use" | "no audio" | "no room" | "not loaded";

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

export const phase = signal<"idle" | "asking" | "testing" | "recording" | "paused" | "stopping">("idle");
export const problem = signal<Problem | undefined>(undefined);
export const level = signal<Level>(nothing);
/** A remark about the running take: another microphone, an interruption. */
export const remark = signal("");
/** Whether the running take reaches the service while it is made. */
export const travels = signal(false);
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
  await endTest();
  await open("recording", async ({ context, stream }, opened) => {
    await context.audioWorklet.addModule(captureUrl).catch(() => {
      throw notLoaded();
    });
    running = await start(context, stream, opened);
    const { processing, stereo } = choices.value;
    const kHz = Number((context.sampleRate / 1000).toFixed(1));
    format.value = `${kHz} kHz, ${stereo ? "stereo" : "mono"}, ${processing ? "processed" : "unprocessed"}`;
  });
}

let releaseTest: (() => Promise<void>) | undefined;

/** Shows the level of the microphone without recording it. Call it in a click. */
export async function beginTest(): Promise<void> {
  await open("testing", async ({ context, stream }, opened) => {
    const analyser = context.createAnalyser();
    context.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const timer = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      const peak = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
      const frames = context.currentTime * context.sampleRate;
      showLevel({ kind: "level", frames, peak, clipped: peak >= 1 ? 3 : 0, lost: 0 }, context.sampleRate);
    }, 50);
    opened.push(() => clearInterval(timer));
    releaseTest = async () => await releaseAll(opened);
  });
}

/** Ends the test of the microphone, if there is one. */
export async function endTest(): Promise<void> {
  if (phase.value !== "testing") return;
  phase.value = "idle";
  await releaseTest?.();
  level.value = nothing;
}

/** Opens the microphone for `use`, which adds what must be released to the list. */
async function open(
  next: "recording" | "testing",
  use: (audio: { context: AudioContext; stream: MediaStream }, opened: Release[]) => Promise<void>,
): Promise<void> {
  if (phase.value !== "idle") return;
  problem.value = lasting();
  if (problem.value) return;
  phase.value = "asking";
  remark.value = "";
  travels.value = false;
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
    await use({ context, stream }, opened);
    if (isOther) remark.value = "The chosen microphone is not there. Another one is used.";
    phase.value = next;
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
  const key = randomUuid();
  const name = takeName(key);
  await claim(key); // until it is stored or thrown away
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
  const lookForInterruption = (): void => {
    if (phase.value !== "recording" && phase.value !== "paused") return;
    if (context.state === "suspended") void context.resume();
    const interrupted =
      "Another app, or the system, interrupted the microphone. The recording goes on when it is back.";
    if (context.state !== "running" || track?.muted) remark.value = interrupted;
    else if (remark.value === interrupted) remark.value = "";
  };
  context.addEventListener("statechange", lookForInterruption);
  for (const event of ["mute", "unmute"]) track?.addEventListener(event, lookForInterruption);
  return { name, node, worker, closed: reports.closed, release: async () => await releaseAll(opened) };
}

/** Called when the microphone ends by itself. The page sets it: it stops the take as the button does. */
export const onMicrophoneLost: { call?: () => void } = {};

function reportsOf(worker: Worker, sampleRateHz: number): { opened: Promise<void>; closed: Promise<void> } {
  const opened = Promise.withResolvers<void>();
  const closed = Promise.withResolvers<void>();
  closed.promise.catch(() => {}); // it may fail before anybody waits for it
  worker.addEventListener("error", () => {
    opened.reject(notLoaded());
    closed.reject(notLoaded());
  });
  worker.addEventListener("message", ({ data }: MessageEvent<TakeReport>) => {
    if (data.kind === "open") opened.resolve();
    else if (data.kind === "closed") closed.resolve();
    else if (data.kind === "level") showLevel(data, sampleRateHz);
    else if (data.kind === "travels") travels.value = data.isOn;
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

/** The name of the running take. */
export function runningTake(): string | undefined {
  return running?.name;
}

/** Sends the running take to the address of an upload while it is made. */
export function sendTakeTo(url: string): void {
  if (running) tell(running.worker, { sendTo: url });
}

/** Pauses the take, or lets it go on: it is one recording without the pause. */
export function pauseTake(): void {
  if (!running || (phase.value !== "recording" && phase.value !== "paused")) return;
  const paused = phase.value === "recording";
  order(running.node, { paused });
  phase.value = paused ? "paused" : "recording";
  say(paused ? "Paused" : "Recording");
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

/** What the recorder loads when a take begins. */
export const recorderParts: readonly string[] = [captureUrl, takeWorkerUrl];

function notLoaded(): DOMException {
  return new DOMException("A part of the recorder did not load.", "NetworkError");
}

function problemOf(error: unknown): Problem {
  const name = error instanceof DOMException ? error.name : "";
  if (name === "NotAllowedError" || name === "SecurityError") return "denied";
  if (name === "NotFoundError") return "no microphone";
  if (name === "NotReadableError" || name === "AbortError") return "microphone in use";
  if (name === "QuotaExceededError") return "no room";
  if (name === "NetworkError") return "not loaded";
  return "no audio";
}

async function within(ms: number, promise: Promise<void>): Promise<boolean> {
  const late = new Promise<false>((resolve) => setTimeout(() => resolve(false), ms));
  return await Promise.race([promise.then(() => true), late]);
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
