/**
 * Bit rates of Layer III in kbit/s, in the order of the header's codes from 1 (ISO 11172-3 and 13818-3, section
 * 2.4.2.3). MPEG-2.5 has those of MPEG-2.
 */
export const layer3Kbps = {
  mpeg1: [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
  mpeg2: [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
} as const;

/** Sample rates of MPEG-1 in the order of the header's codes. MPEG-2 has halves of them, MPEG-2.5 has quarters. */
export const mpeg1RatesHz = [44_100, 48_000, 32_000] as const;
