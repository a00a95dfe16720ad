import { describe, expect, it } from "@jest/globals";
import { mpegVersionOf } from "../src/audio/mp3/mp3-frame.ts";
import { mp3BitrateFor, mp3RateFor, qualityNames } from "../src/audio/mp3/quality.ts";

describe("the MP3's sample rate", () => {
  it.each([
    [44_100, 44_100],
    [48_000, 48_000],
    [32_000, 32_000],
    [24_000, 24_000],
    [22_050, 22_050],
    [16_000, 32_000],
    [12_000, 48_000],
    [11_025, 44_100],
    [8000, 32_000],
    [6000, 48_000],
    [5512, 32_000],
    [1000, 32_000],
    [22_049, 32_000],
    [22_255, 24_000],
    [37_800, 44_100],
    [44_056, 44_100],
    [47_999, 48_000],
    [64_000, 48_000],
    [88_200, 44_100],
    [96_000, 48_000],
    [192_000, 48_000],
    [352_800, 44_100],
    [705_600, 44_100],
    [768_000, 48_000],
  ])("of a source of %i Hz is %i Hz", (source, mp3) => {
    expect(mp3RateFor(source)).toBe(mp3);
  });

  it("is never one of MPEG-2.5, which some players do not play", () => {
    for (let rateHz = 1000; rateHz <= 768_000; rateHz += rateHz % 8000 === 0 ? 25 : 41) {
      expect([1, 2]).toContain(mpegVersionOf(mp3RateFor(rateHz)));
      expect(mp3RateFor(rateHz)).toBeGreaterThanOrEqual(Math.min(rateHz, 44_100));
    }
  });
});

describe("the MP3's bit rate", () => {
  it.each([
    ["SPEECH", 44_100, 1, 64],
    ["SPEECH", 8000, 1, 48],
    ["LOW", 44_100, 1, 64],
    ["LOW", 44_100, 2, 96],
    ["LOW", 8000, 1, 48],
    ["LOW", 8000, 2, 96],
    ["STANDARD", 44_100, 1, 96],
    ["STANDARD", 44_100, 2, 192],
    ["STANDARD", 24_000, 2, 160],
    ["STANDARD", 16_000, 1, 96],
    ["STANDARD", 8000, 1, 64],
    ["STANDARD", 8000, 2, 128],
    ["HIGH", 48_000, 2, 320],
    ["HIGH", 16_000, 1, 128],
    ["HIGH", 11_025, 1, 80],
    ["HIGH", 8000, 1, 64],
    ["HIGH", 1000, 2, 32],
  ] as const)("of %s for %i Hz and %i channels is %i kbit/s", (quality, rateHz, channels, kbps) => {
    expect(mp3BitrateFor(rateHz, channels, quality)).toBe(kbps);
  });

  it("never makes the MP3 of a telephone call larger than the call in A-law", () => {
    for (const quality of qualityNames) expect(mp3BitrateFor(8000, 1, quality)).toBeLessThanOrEqual(64);
  });
});
