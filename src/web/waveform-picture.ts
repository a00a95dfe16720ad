import { promisify } from "node:util";
import { crc32, deflate } from "node:zlib";

/** Size of a picture, in pixels: what chats and social networks show in full. */
export const pictureWidth = 1200;
export const pictureHeight = 630;

/** Number of bars in a waveform, on a page or in a picture. */
export const barCount = 90;

/** The lowest bar, as a part of the highest one: silence is a thin line. */
const leastHeight = 0.01;

/** A waveform is enlarged until its highest bar is this high, but not more than ten times. */
const mostEnlarged = 10;

/** The heights of the bars of a waveform, from 0 to 1. A quiet recording is enlarged, so that its form can be seen. */
export function barHeights(peaks: readonly number[]): number[] {
  const scale = Math.min(mostEnlarged, 1 / Math.max(...peaks, 1 / mostEnlarged));
  return peaks.map((peak) => Math.max(leastHeight, peak * scale));
}

/** The dark paper and the accent of the pages, in RGB. A pixel is an index into them, in two bits. */
const palette = Buffer.from("15141362d2c8", "hex");
const [bitsPerPixel, fourAccents] = [2, 0b01_01_01_01];

/** All in pixels. What is horizontal is a multiple of four pixels, which are a byte. */
const [margin, barWidth, barDistance, mostHeight] = [60, 8, 12, 420];

const compress = promisify(deflate);

/**
 * Draws a waveform as a PNG (ISO/IEC 15948) of a few kilobytes.
 * @param peaks {@link barCount} magnitudes from 0 to 1
 */
export async function drawWaveform(peaks: readonly number[]): Promise<Buffer> {
  const rowBytes = 1 + pictureWidth / 4; // the first one says that the row is not filtered
  const rows = Buffer.alloc(rowBytes * pictureHeight);
  for (const [bar, height] of barHeights(peaks).entries()) {
    const half = Math.round((height * mostHeight) / 2);
    const column = 1 + (margin + bar * barDistance) / 4;
    for (let y = pictureHeight / 2 - half; y <= pictureHeight / 2 + half; y++) {
      const start = y * rowBytes + column;
      rows.fill(fourAccents, start, start + barWidth / 4);
    }
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(pictureWidth, 0);
  header.writeUInt32BE(pictureHeight, 4);
  header.set([bitsPerPixel, 3], 8); // with a palette
  const chunks = [chunk("IHDR", header), chunk("PLTE", palette), chunk("IDAT", await compress(rows)), chunk("IEND")];
  return Buffer.concat([Buffer.from("89504e470d0a1a0a", "hex"), ...chunks]);
}

function chunk(type: string, content = Buffer.alloc(0)): Buffer {
  const typed = Buffer.concat([Buffer.from(type, "latin1"), content]);
  const bytes = Buffer.alloc(typed.length + 8);
  bytes.writeUInt32BE(content.length, 0);
  bytes.set(typed, 4);
  bytes.writeUInt32BE(crc32(typed), typed.length + 4);
  return bytes;
}
