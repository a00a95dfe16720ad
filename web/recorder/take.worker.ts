import type { Block, TakeOrder, TakeReport } from "./capture.ts";
import { openTakeFile, type TakeFile } from "./take-file.ts";

/** Stores the take that is being recorded. Sound comes here from the audio thread, never through the page. */
let take: TakeFile | undefined;
let format = { sampleRateHz: 0, channels: 1 };
let soundBytes = 0;
let flushedBytes = 0;
let isClosed = false;
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
    flushedBytes = soundBytes;
    await take.flush();
  }
}

async function close(): Promise<void> {
  if (isClosed || !take) return;
  isClosed = true;
  await take.close(soundBytes);
  report({ kind: "closed", frames: frames() });
}

function frames(): number {
  return soundBytes / 2 / format.channels;
}
