/**
 * Decodes the ADPCM of two makers of sound chips, which has neither blocks nor headers: each code of 4 bits follows from
 * all codes before it. OKI ADPCM (format tags 0x10 and 0x17) is that of the OKI MSM5205 and of Dialogic's telephone
 * cards; Yamaha ADPCM (0x20) is that of the Yamaha YM2608.
 */

import { imaIndexMoves, imaSteps } from "./adpcm.ts";

/** What a channel remembers from one code to the next. */
interface Channel {
  sample: number;
  /** The step itself, or its index. */
  step: number;
}

type DecodeCode = (channel: Channel, code: number) => number;

/** Creates a decoder for OKI ADPCM of 1 or 2 channels, in order. The first code is in the upper half of a byte. */
export function okiDecoder(channels: number): (bytes: Buffer) => Int16Array<ArrayBuffer> {
  const states = Array.from({ length: channels }, (): Channel => ({ sample: 0, step: 0 }));
  return (bytes) => decodeNibbles(bytes, states[0]!, states.at(-1)!, 4, decodeOkiCode);
}

/** Creates a decoder for Yamaha ADPCM of 1 or 2 channels, in order. The first code is in the lower half of a byte. */
export function yamahaDecoder(channels: number): (bytes: Buffer) => Int16Array<ArrayBuffer> {
  const states = Array.from({ length: channels }, (): Channel => ({ sample: 0, step: 127 }));
  return (bytes) => decodeNibbles(bytes, states[0]!, states.at(-1)!, 0, decodeYamahaCode);
}

function decodeNibbles(
  bytes: Buffer,
  first: Channel,
  second: Channel,
  firstShift: 0 | 4,
  decodeCode: DecodeCode,
): Int16Array<ArrayBuffer> {
  const samples = new Int16Array(2 * bytes.length);
  for (let i = 0; i < bytes.length; i++) {
    samples[2 * i] = decodeCode(first, (bytes[i]! >> firstShift) & 15);
    samples[2 * i + 1] = decodeCode(second, (bytes[i]! >> (4 - firstShift)) & 15);
  }
  return samples;
}

/** The 49 steps of 12 bits: those of IMA ADPCM from 16 to 1552. */
const okiSteps = imaSteps.subarray(8, 57);
const okiMoves = imaIndexMoves[4]!;

function decodeOkiCode(channel: Channel, code: number): number {
  const difference = ((2 * (code & 7) + 1) * okiSteps[channel.step]!) >> 3;
  channel.sample = clip(channel.sample + (code & 8 ? -difference : difference), -2048, 2047);
  channel.step = clip(channel.step + okiMoves[code & 7]!, 0, okiSteps.length - 1);
  return channel.sample * 16;
}

const yamahaScales = Int16Array.from([230, 230, 230, 230, 307, 409, 512, 614]);

function decodeYamahaCode(channel: Channel, code: number): number {
  const difference = ((2 * (code & 7) + 1) * channel.step) >> 3;
  channel.sample = clip(channel.sample + (code & 8 ? -difference : difference), -32_768, 32_767);
  channel.step = clip((channel.step * yamahaScales[code & 7]!) >> 8, 127, 24_576);
  return channel.sample;
}

function clip(value: number, lowest: number, highest: number): number {
  return value < lowest ? lowest : value > highest ? highest : value;
}
