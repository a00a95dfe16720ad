import { effect, signal, untracked } from "@preact/signals";
import {
  account,
  callAsUser,
  ensureAccount,
  keyIsRefused,
  noteRefusedKey,
  watchOtherTabs,
  type Account,
} from "./account/account.ts";
import { call } from "./api/client.ts";
import { PlayUrlDocument, ServiceDocument, type RowFragment, type ServiceQuery } from "./api/operations.ts";
import { addressOf, beginUpload, recall, sendOnwards } from "./api/send-onwards.ts";
import { addStored, deleteLeaving, emptyLibrary, failure as libraryFailure, loadLibrary } from "./library/library.ts";
import { claim, release } from "./locks.ts";
import { noticeMs, notify, say } from "./look/notices.ts";
import { address, ownPath, stopPlaying } from "./player/player.ts";
import { forgetFile, keepFile, keptFile, keptKeys } from "./queue/kept-files.ts";
import { Queue, type QueuedFile } from "./queue/queue.ts";
import { headBytes, readFacts } from "./queue/wav-facts.ts";
import { watchMicrophones } from "./recorder/microphone.ts";
import {
  beginTake,
  endTake,
  onMicrophoneLost,
  phase,
  recorderParts,
  runningTake,
  sendTakeTo,
} from "./recorder/recorder.ts";
import { deleteTake, fileNameOf, findTake, keyOf, namesOfTakes, type Take } from "./recorder/takes.ts";
import { randomUuid } from "./uuid.ts";
import { clock, longTime, size } from "./words.ts";

/** Limits and defaults of the service, once they are known. */
export const service = signal<ServiceQuery["service"] | undefined>(undefined);

/** Takes of this device that are not in the queue and not stored. */
export const foundTakes = signal<readonly Take[]>([]);

export const isOnline = signal(navigator.onLine);

/** A key that came in the address, and must be confirmed before it is used. */
export const offeredKey = signal<string | undefined>(keyInAddress());

export const queue = new Queue({
  send: sendOnwards,
  token: async () => (await ensureAccount()).token,
  keep: keepFile,
  onStored: (file, record, created) => {
    addStored(record);
    void forget(file);
    say(`${record.title}: ${created ? "stored" : "it was already there"}. The link is ready.`);
  },
  onFailed: ({ key, name, place, code }, error, token) => {
    noteRefusedKey(error, token);
    // Another key was entered before this answer came.
    if (code === "UNAUTHENTICATED" && token !== undefined && token !== account.value?.token) queue.retry(key);
    else if (place !== "waiting") say(`${name} could not be sent.`);
  },
  pause: async (ms) =>
    await new Promise((resolve) => {
      const over = new AbortController();
      const end = (): void => {
        over.abort();
        resolve();
      };
      addEventListener("online", end, { signal: over.signal });
      setTimeout(end, ms);
    }),
});

/** Forgets what this browser has kept of a file. */
async function forget({ key, take }: QueuedFile): Promise<void> {
  await (take === undefined ? forgetFile(key) : deleteTake(take));
  release(key);
}

/** Starts what the page does without being asked. */
export function start(): void {
  watchOtherTabs();
  address.of = playableAddress;
  let shown: Account | undefined;
  effect(() => {
    const now = account.value;
    untracked(() => {
      if (now?.id !== shown?.id) {
        stopPlaying();
        emptyLibrary();
      }
      if (now?.token !== shown?.token) void loadLibrary();
    });
    shown = now;
  });
  effect(() => {
    if (account.value && !keyIsRefused.value) untracked(() => queue.retryAfter("UNAUTHENTICATED"));
  });
  // So that the first recording works without a network, too.
  for (const url of recorderParts) void fetch(url).catch(() => {});
  for (const event of ["online", "offline"]) addEventListener(event, () => (isOnline.value = navigator.onLine));
  addEventListener("online", () => void (libraryFailure.value && loadLibrary()));
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
  for (const key of await keptKeys()) void goOnWith(key);
}

/** Sends a file that was kept, once no other tab is about to do that. */
async function goOnWith(key: string): Promise<void> {
  await claim(key);
  const kept = await keptFile(key).catch(() => undefined);
  if (kept) await addFile(kept.file, kept.name, key);
  else release(key);
}

async function lookForTakes(): Promise<void> {
  for (const name of await namesOfTakes()) void offerTake(name);
}

/**
 * Offers a take once no other tab records or sends it. One without sound is deleted; one that cannot be read now is left
 * for the next visit.
 */
async function offerTake(name: string): Promise<void> {
  const key = keyOf(name);
  await claim(key);
  try {
    const take = await findTake(name);
    if (take) foundTakes.value = [...foundTakes.value, take].toSorted((a, b) => a.startedAt - b.startedAt);
    else await deleteTake(name);
    if (!take) release(key);
  } catch {
    // It is not lost, and perhaps it can be read at the next visit.
  }
}

/** Adds files that a person has dropped, pasted or chosen. */
export async function addFiles(files: readonly File[]): Promise<void> {
  if (files.length > 0) say(files.length === 1 ? `${files[0]!.name}: sending` : `${files.length} files: sending`);
  for (const file of files) await addFile(file, file.name);
}

async function addFile(file: Blob, name: string, key = randomUuid()): Promise<void> {
  void claim(key);
  const head = await file
    .slice(0, headBytes)
    .arrayBuffer()
    .catch(() => undefined);
  if (!head) {
    notify(`${name} cannot be read.`);
    return;
  }
  const facts = readFacts(new Uint8Array(head), file.size, name);
  const refusal = facts.isWav ? limitWords(file.size, facts.seconds ?? 0) : undefined;
  queue.add(file, { name, key, facts, ...(refusal && { refusal }) });
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
  if (file.take === undefined && file.place !== "stored") void recall(file.key);
  if (file.take === undefined) void forget(file);
  else if (file.place !== "stored") void offerTake(file.take);
}

/** Begins a take. */
export async function record(): Promise<void> {
  if (phase.value !== "idle" && phase.value !== "testing") return;
  stopPlaying();
  await beginTake();
  // It changed in the meantime.
  if ((phase.value as string) === "recording") {
    say("Recording");
    void letTakeTravel();
    // So that the browser does not delete takes when the disk gets full.
    await (navigator.storage as StorageManager | undefined)?.persist?.().catch(() => false);
  }
}

/** Sends the running take while it is made. If that is not possible, it is sent after Stop, which tells why. */
async function letTakeTravel(): Promise<void> {
  const name = runningTake();
  // Nobody is asked for an invitation while they record.
  if (name === undefined || !(account.value ?? service.value?.registration === "OPEN")) return;
  try {
    const { token } = await ensureAccount();
    const upload = await beginUpload(fileNameOf(Number.parseInt(name, 10)), keyOf(name), token);
    if (runningTake() === name) sendTakeTo(addressOf(upload));
  } catch {
    // The queue meets the same problem.
  }
}

/** Ends the take, and sends it. */
export async function stop(): Promise<void> {
  const take = await takeAtEnd();
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
  const take = await takeAtEnd();
  if (take) throwAway(take);
}

async function takeAtEnd(): Promise<Take | undefined> {
  try {
    return await endTake();
  } catch {
    notify("The recording cannot be read now. It is kept, and offered again at the next visit.");
    return undefined;
  }
}

/** Deletes a take of this device, unless that is undone in time. */
export function throwAway(take: Take): void {
  foundTakes.value = foundTakes.value.filter(({ name }) => name !== take.name);
  const forgetTake = async (): Promise<void> => {
    await Promise.all([deleteTake(take.name), recall(take.key)]).finally(() => release(take.key));
  };
  const timer = setTimeout(() => void forgetTake(), noticeMs);
  notify("The recording is discarded.", {
    label: "Undo",
    run: () => {
      clearTimeout(timer);
      foundTakes.value = [...foundTakes.value, take];
    },
    focus: ".found button",
  });
}
