import type { Block, TakeOrder, TakeReport } from "./capture.ts";
import { openTakeFile, type TakeFile } from "./take-file.ts";
import { headerBytes } from "./wav-header.ts";

/** Sound that is sent at a time, in seconds: at least, and if the network is slower than the sound. */
const leastPortion = 0.5;
const mostPortion = 2;

/** How long the end of a take waits for a portion that is on its way, and the next attempt for the network. */
const lastPortionMs = 1000;
const retryMs = 2000;
const lookMs = 50;

/** Stores the take that is being recorded. Sound comes here from the audio thread, never through the page. */
let take: TakeFile | undefined;
let format = { sampleRateHz: 0, channels: 1 };
let soundBytes = 0;
let flushedBytes = 0;
let isClosed = false;
/** Resolves when no portion is on its way any more. */
let travelling: Promise<void> | undefined;
/** Blocks are stored one after the other. */
let turn = Promise.resolve();

function report(message: TakeReport): void {
  postMessage(message);
}

addEventListener("message", ({ data }: MessageEvent<TakeOrder>) => {
  if ("close" in data) {
    inTurn(close);
    return;
  }
  if ("sendTo" in data) {
    travelling ??= send(data.sendTo).catch(() => report({ kind: "travels", isOn: false }));
    return;
  }
  format = data;
  inTurn(async () => {
    const opened = await openTakeFile(data.name, data);
    take = opened.file;
    report({ kind: "open", store: opened.store });
  });
  data.source.addEventListener("message", (event: MessageEvent<Block>) =>
    inTurn(async () => await storeBlock(event.data)),
  );
  data.source.start();
});

function inTurn(work: () => Promise<void>): void {
  turn = turn.then(work).catch((error: unknown) => {
    report({ kind: "failed", message: error instanceof Error ? `${error.name}: ${error.message}` : String(error) });
  });
}

async function storeBlock({ pcm, peak, clipped, lost, last }: Block): Promise<void> {
  if (isClosed || !take) return;
  if (pcm.byteLength > 0) await take.append(new Uint8Array(pcm));
  soundBytes += pcm.byteLength;
  report({ kind: "level", frames: frames(), peak, clipped, lost });
  if (last) return await close();
  // Each half second.
  if (soundBytes - flushedBytes > format.sampleRateHz * format.channels) {
    await take.flush();
    flushedBytes = soundBytes;
  }
}

async function close(): Promise<void> {
  if (isClosed || !take) return;
  isClosed = true;
  await Promise.race([travelling, delay(lastPortionMs)]);
  await take.close(soundBytes);
  report({ kind: "closed", frames: frames() });
}

function frames(): number {
  return soundBytes / 2 / format.channels;
}

/** Sends the take while it grows, with its open sizes. What is missing at its end, the queue sends. */
async function send(url: string): Promise<void> {
  const bytesOf = (seconds: number): number => seconds * format.sampleRateHz * format.channels * 2;
  for (let at = 0; ;) {
    const read = isClosed ? undefined : take?.read;
    if (!read) return;
    // Only what is safe on the disk: more may never be missing here than there.
    const waiting = headerBytes + flushedBytes - at;
    if (waiting < bytesOf(leastPortion)) {
      await delay(lookMs);
      continue;
    }
    const body = read(at, Math.min(waiting, bytesOf(mostPortion)));
    const headers = { "content-type": "application/offset+octet-stream", "upload-offset": String(at) };
    const answer = await fetch(url, { method: "PATCH", headers, body }).catch(() => undefined);
    const offset = answer?.headers.get("upload-offset");
    report({ kind: "travels", isOn: answer?.ok === true });
    if (offset) at = Number(offset);
    // Nothing that is sent later can change it; the queue tells what it is.
    else if (answer && answer.status < 500 && ![408, 409, 423, 429].includes(answer.status)) return;
    else await delay(retryMs);
  }
}

async function delay(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}
