import { describe, expect, it } from "@jest/globals";
import { readFrameHeader } from "../src/audio/mp3/mp3-frame.ts";
import {
  clearGranule,
  mainDataBytes,
  mostMainDataBegin,
  readMainDataBegin,
  sideInformationLayout,
  sideInformationStart,
  writeMainDataBegin,
} from "../src/audio/mp3/side-information.ts";
import { decodeMp3, readFrames, readReservoir } from "./support/mp3.ts";
import { encodeMp3 } from "./support/mp3-decoders.ts";

describe.each([
  [44_100, 1, 96],
  [48_000, 2, 192],
  [22_050, 1, 64],
  [24_000, 2, 96],
  [8000, 1, 32],
  [12_000, 2, 64],
] as const)("the side information at %i Hz with %i channels", (rateHz, channels, kbps) => {
  const clicks = Int16Array.from({ length: rateHz * channels }, (_, i) => {
    const since = Math.floor(i / channels) % 5000;
    return Math.round(5000 * Math.exp(-since / 300) * Math.sin(since * since) + 300 * Math.sin(i / (9 * channels)));
  });
  const encoded = encodeMp3(clicks, rateHz, channels, kbps);

  it("tells which bytes belong to which frame", async () => {
    const mp3 = await encoded;
    const most = mostMainDataBegin(readFrames(mp3)[0]!);
    // Throws if the fields do not fit together.
    const begins = readReservoir(mp3);
    expect(Math.max(...begins)).toBeLessThanOrEqual(most);
    expect(Math.max(...begins)).toBeGreaterThan(most / 4);
  });

  it("has the gain that a decoder applies", async () => {
    const mp3 = await encoded;
    const louder = Buffer.from(mp3);
    let frameStart = 0;
    for (const header of readFrames(mp3)) {
      for (const bit of sideInformationLayout(header).globalGains) {
        const at = sideInformationStart(louder, frameStart) + (bit >> 3);
        louder.writeUInt16BE(louder.readUInt16BE(at) + (4 << (8 - (bit & 7))), at);
      }
      frameStart += header.byteLength;
    }
    const before = decodeMp3(mp3);
    const after = decodeMp3(louder);
    expect(before.some((sample) => Math.abs(sample) > 0.05)).toBe(true);
    expect(after.every((sample, i) => Math.abs(sample - 2 * before[i]!) < 1e-4)).toBe(true);
  });

  it("takes the sound out of granules and leaves the rest", async () => {
    const frame = Buffer.from(await encoded);
    const header = readFrameHeader(frame)!;
    const start = sideInformationStart(frame);
    frame.fill(0xff, start, start + header.sideInfoBytes);
    const { part23Lengths, globalGains } = sideInformationLayout(header);
    for (const [i, bit] of part23Lengths.entries()) {
      const before = Buffer.from(frame);
      clearGranule(frame, 0, header, i);
      expect(frame.readUInt32BE(start + (globalGains[i]! >> 3)) >>> 24 === 0xff).toBe(false);
      expect(frame.subarray(0, start + (bit >> 3))).toEqual(before.subarray(0, start + (bit >> 3)));
      // A field of 12 ones is 4095 bits.
      const granulesLeft = part23Lengths.length - i - 1;
      expect(mainDataBytes(frame, 0, header)).toBe(Math.ceil((granulesLeft * 4095) / 8));
    }
    expect(frame.subarray(start + header.sideInfoBytes)).toEqual(
      (await encoded).subarray(start + header.sideInfoBytes),
    );
  });

  it("keeps all other fields when the begin of the main data is written", async () => {
    const frame = Buffer.from(await encoded);
    const header = readFrameHeader(frame)!;
    frame.fill(0xff, sideInformationStart(frame), sideInformationStart(frame) + header.sideInfoBytes);
    const before = Buffer.from(frame);
    const begin = readMainDataBegin(frame, 0, header);
    for (const other of [0, 1, 171, mostMainDataBegin(header)]) {
      writeMainDataBegin(frame, 0, header, other);
      expect(readMainDataBegin(frame, 0, header)).toBe(other);
    }
    writeMainDataBegin(frame, 0, header, begin);
    expect(frame.equals(before)).toBe(true);
  });
});
