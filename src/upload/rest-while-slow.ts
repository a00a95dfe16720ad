import type { UploadSlot } from "./upload-slots.ts";

/** An upload rests when it has waited this long for this many bytes, and continues when it has received them. */
const patienceMs = 50;
const worthwhileBytes = 16 * 1024;

/** Passes on an upload's bytes, and lets its slot rest while its client is slow. */
export async function* restWhileSlow(
  source: AsyncIterable<Buffer>,
  slot: UploadSlot,
): AsyncGenerator<Buffer, void, undefined> {
  let arrivedBytes = 0;
  let waitedMs = 0;
  let waitsSince = performance.now();
  const startTimer = () => setTimeout(() => slot.rest("client"), Math.max(0, patienceMs - waitedMs));
  let timer = startTimer();
  try {
    for await (const bytes of source) {
      clearTimeout(timer);
      waitedMs += performance.now() - waitsSince;
      arrivedBytes += bytes.length;
      if (arrivedBytes >= worthwhileBytes) {
        arrivedBytes = waitedMs = 0;
        slot.wake("client");
      }
      yield bytes;
      waitsSince = performance.now();
      timer = startTimer();
    }
  } finally {
    clearTimeout(timer);
    slot.wake("client");
  }
}
