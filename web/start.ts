import { effect, signal } from "@preact/signals";
import { account, callAsUser, ensureAccount, noteRefusedKey, watchOtherTabs } from "./account/account.ts";
import { call } from "./api/client.ts";
import { PlayUrlDocument, ServiceDocument, type RowFragment, type ServiceQuery } from "./api/operations.ts";
import { sendAfterStop } from "./api/send-after-stop.ts";
import { addStored, deleteLeaving, loadLibrary } from "./library/library.ts";
import { noticeMs, notify, say } from "./look/notices.ts";
import { address, ownPath, stopPlaying } from "./player/player.ts";
import { forgetFile, keepFile, keptFiles } from "./queue/kept-files.ts";
import { Queue, type QueuedFile } from "./queue/queue.ts";
import { headBytes, readFacts } from "./queue/wav-facts.ts";
import { watchMicrophones } from "./recorder/microphone.ts";
import { beginTake, endTake, onMicrophoneLost, phase } from "./recorder/recorder.ts";
import { clock, longTime, size } from "./words.ts";
import { deleteTake, fileNameOf, lostTakes, type Take } from "./recorder/takes.ts";

/** Limits and defaults of the service, once they are known. */
export const service = signal<ServiceQuery["service"] | undefined>(undefined);

/** Takes of this device that are not in the queue and not stored. */
export const foundTakes = signal<readonly Take[]>([]);

export const isOnline = signal(navigator.onLine);

/** A key that came in the address, and must be confirmed before it is used. */
export const offeredKey = signal<string | undefined>(keyInAddress());

export const queue = new Queue({
  send: sendAfterStop,
  token: async () => (await ensureAccount()).token,
  keep: keepFile,
  onStored: (file, record, created) => {
    addStored(record);
    void forget(file);
    say(`${record.title}: ${created ? "stored" : "it was already there"}. The link is ready.`);
  },
  onFailed: ({ name, place }, error) => {
    noteRefusedKey(error);
    if (place === "failed") say(`${name} could not be sent.`);
  },
  pause: async (ms) =>
    await new Promise((resolve) => {
      setTimeout(resolve, ms);
      addEventListener("online", () => resolve(), { once: true });
    }),
});

/** Forgets what this browser has kept of a file. */
async function forget({ key, take }: QueuedFile): Promise<void> {
  if (take === undefined) await forgetFile(key);
  else await deleteTake(take);
}

/** Starts what the page does without being asked. */
export function start(): void {
  watchOtherTabs();
  address.of = playableAddress;
  let shownUser: string | undefined;
  effect(() => {
    const id = account.value?.id;
    if (id !== shownUser) {
      stopPlaying();
      void loadLibrary();
    }
    shownUser = id;
  });
  for (const event of ["online", "offline"]) addEventListener(event, () => (isOnline.value = navigator.onLine));
  addEventListener("pagehide", deleteLeaving);
  addEventListener("hashchange", () => (offeredKey.value = keyInAddress() ?? offeredKey.value));
  addEventListener("beforeunload", (event) => {
    if (phase.value === "recording" || phase.value === "paused" || queue.isBusy.value) event.preventDefault();
  });
  onMicrophoneLost.call = () => void stop();
  void call(ServiceDocument, {}).then(
    (answer) => (service.value = answer.service),
    () => {},
  );
  void watchMicrophones();
  void goOnWithFiles();
  void lookForTakes();
}

function keyInAddress(): string | undefined {
  const key = /^#t=([0-9a-f-]{36})$/i.exec(location.hash)?.[1];
  if (key !== undefined) history.replaceState(null, "", location.pathname + location.search);
  return key;
}

async function playableAddress({ id, visibility, streamUrl }: RowFragment): Promise<string> {
  if (visibility === "PUBLIC") return ownPath(streamUrl);
  const { record } = await callAsUser(PlayUrlDocument, { id });
  return ownPath(record?.playUrl ?? streamUrl);
}

/** Adds what was in the queue before a reload. */
async function goOnWithFiles(): Promise<void> {
  for (const { file, name, key } of await keptFiles()) await addFile(file, name, key);
}

async function lookForTakes(): Promise<void> {
  const queued = new Set(queue.files.value.map(({ key }) => key));
  foundTakes.value = (await lostTakes()).filter(({ key }) => !queued.has(key));
}

/** Adds files that a person has dropped, pasted or chosen. */
export async function addFiles(files: readonly File[]): Promise<void> {
  if (files.length > 0) say(files.length === 1 ? `${files[0]!.name}: sending` : `${files.length} files: sending`);
  for (const file of files) await addFile(file, file.name);
}

async function addFile(file: Blob, name: string, key?: string): Promise<void> {
  const head = await file
    .slice(0, headBytes)
    .arrayBuffer()
    .catch(() => new ArrayBuffer(0));
  const facts = readFacts(new Uint8Array(head), file.size, name);
  const refusal = facts.isWav ? limitWords(file.size, facts.seconds ?? 0) : undefined;
  queue.add(file, { name, facts, ...(key !== undefined && { key }), ...(refusal && { refusal }) });
}

/** Why the service will not take a file, before a byte of it is sent. */
function limitWords(sizeBytes: number, seconds: number): string | undefined {
  const limits = service.value;
  if (limits && sizeBytes > limits.maxUploadBytes) {
    return `This file has ${size(sizeBytes)}. The service takes at most ${size(limits.maxUploadBytes)}.`;
  }
  if (limits && seconds > limits.maxDurationSeconds) {
    return `This file is ${clock(seconds)} long. The service takes at most ${longTime(limits.maxDurationSeconds)}.`;
  }
  return undefined;
}

/** Takes a file out of the queue, and forgets it. A take is offered again. */
export function removeFromQueue(file: QueuedFile): void {
  queue.remove(file.key);
  if (file.take === undefined) void forgetFile(file.key);
  else if (file.place !== "stored") void lookForTakes();
}

/** Begins a take. */
export async function record(): Promise<void> {
  stopPlaying();
  await beginTake();
  if (phase.value === "recording") {
    say("Recording");
    // So that the browser does not delete takes when the disk gets full.
    await (navigator.storage as StorageManager | undefined)?.persist?.().catch(() => false);
  }
}

/** Ends the take, and sends it. */
export async function stop(): Promise<void> {
  const take = await endTake();
  if (!take) return;
  say("Stopped. The recording is being sent.");
  upload(take);
}

/** Sends a take of this device. */
export function upload(take: Take): void {
  foundTakes.value = foundTakes.value.filter(({ name }) => name !== take.name);
  const facts = { isWav: true, seconds: take.seconds } as const;
  queue.add(take.file, { name: fileNameOf(take.startedAt), key: take.key, take: take.name, facts });
}

/** Ends the take without sending it. It can be brought back for a while. */
export async function discard(): Promise<void> {
  const take = await endTake();
  if (take) throwAway(take);
}

/** Deletes a take of this device, unless that is undone in time. */
export function throwAway(take: Take): void {
  foundTakes.value = foundTakes.value.filter(({ name }) => name !== take.name);
  const timer = setTimeout(() => void deleteTake(take.name), noticeMs);
  notify("The take is thrown away.", {
    label: "Undo",
    run: () => {
      clearTimeout(timer);
      foundTakes.value = [...foundTakes.value, take];
    },
  });
}
