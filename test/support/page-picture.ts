import { writeFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openBrowserWithMicrophone, openPage, recorded } from "./page.ts";
import { sineWav } from "./wav-maker.ts";

/**
 * Takes the picture for the README: `page-picture.js <address of a running service> <file>`. It leaves a user behind.
 */
const [url, path] = process.argv.slice(2);
if (url === undefined || path === undefined) throw new Error("Give the address of a running service and a file");
const folder = await mkdtemp(join(tmpdir(), "page-picture-"));
const microphone = join(folder, "voice.wav");
await writeFile(microphone, sound(30, 3));
const browser = await openBrowserWithMicrophone(microphone);
try {
  const { page } = await openPage(browser, url, { viewport: { width: 780, height: 800 }, deviceScaleFactor: 1 });
  await page
    .locator("input[type=file]")
    .first()
    .setInputFiles([
      { name: "Rain on the tent.wav", mimeType: "audio/wav", buffer: sound(252, 7) },
      { name: "Song for Ann, take 3.wav", mimeType: "audio/wav", buffer: sound(187, 5) },
    ]);
  await page.locator(".queue-row.stored").nth(1).waitFor();
  await page.getByRole("button", { name: "Clear the list" }).click();
  await page.click("#record");
  await recorded(page, 4);
  await page.screenshot({ path });
} finally {
  await browser.close();
  await rm(folder, { recursive: true });
}

/** Something that swells and fades like music, at 8 kHz. */
function sound(seconds: number, seed: number): Buffer {
  const wav = sineWav({ seconds, sampleRateHz: 8000, channels: 1, amplitude: 0.7 });
  for (let at = 44; at + 1 < wav.length; at += 2) {
    const time = at / wav.length;
    const phrases = Math.abs(Math.sin(time * 40 * seed) * Math.sin(time * 13) * Math.cos(time * 91 + seed));
    wav.writeInt16LE(Math.round(wav.readInt16LE(at) * (0.15 + 0.85 * phrases)), at);
  }
  return wav;
}
