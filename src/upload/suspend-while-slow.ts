import type { UploadSlot } from "./upload-slots.ts";

/** A slot is suspended if its upload has waited so long for so many bytes, and in use again when they have arrived. */
const patienceMs = 50;
const worthwhileBytes = 16 * 1024;

/** Passes an upload's bytes on, and suspends its slot while the client is slow. */
export async function* suspendWhileSlow(
  source: AsyncIterable<Buffer>,
  slot: UploadSlot,
): AsyncGenerator<Buffer, void, undefined> {
  let arrivedBytes = 0;
  let waitedMs = 0;
  let waitsSince = performance.now();
  let suspension: Disposable | undefined;
  const suspend = () => void (suspension ??= slot.suspend());
  const startTimer = () => setTimeout(suspend, Math.max(0, patienceMs - waitedMs));
  const resume = () => {
    suspension?.[Symbol.dispose]();
    suspension = undefined;
  };
  let timer = startTimer();
  try {
    for await (const bytes of source) {
      clearTimeout(timer);
      waitedMs += performance.now() - waitsSince;
      arrivedBytes += bytes.length;
      if (arrivedBytes >= worthwhileBytes) {
        arrivedBytes = waitedMs = 0;
        resume();
      }
      yield bytes;
      waitsSince = performance.now();
      timer = startTimer();
    }
  } finally {
    clearTimeout(timer);
    resume();
  }
}
