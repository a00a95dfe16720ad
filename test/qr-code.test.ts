import { describe, expect, it } from "@jest/globals";
import { createRequire } from "node:module";
import { longestQrText, qrCode } from "../web/account/qr-code.ts";

type Read = (pixels: Uint8ClampedArray, width: number, height: number) => { data: string } | null;
const read = createRequire(import.meta.url)("jsqr") as Read;

/** What a reader of QR codes sees in a picture of the modules, with the quiet zone around them. */
function scan(rows: readonly (readonly boolean[])[]): string | undefined {
  const [scale, quiet] = [4, 4];
  const width = (rows.length + 2 * quiet) * scale;
  const pixels = new Uint8ClampedArray(width * width * 4).fill(255);
  for (let y = 0; y < width; y++) {
    for (let x = 0; x < width; x++) {
      if (rows[Math.floor(y / scale) - quiet]?.[Math.floor(x / scale) - quiet])
        pixels.fill(0, (y * width + x) * 4, (y * width + x) * 4 + 3);
    }
  }
  return read(pixels, width, width)?.data;
}

describe("the QR code of a device's link", () => {
  const link = "https://music.example.com/a/path/#t=01234567-89ab-4cde-8f01-23456789abcd";

  // the shortest and the longest text of each version
  it.each([1, 17, 18, 32, 53, 54, 78, 79, 106, 107, 134, 135, 154, 155, 192, 193, longestQrText])(
    "is read by a phone, at %d bytes",
    (length) => {
      const text = link.repeat(4).slice(0, length);
      expect(scan(qrCode(text))).toBe(text);
    },
  );

  it("is refused for a longer text", () => {
    expect(() => qrCode("a".repeat(longestQrText + 1))).toThrow(RangeError);
  });
});
