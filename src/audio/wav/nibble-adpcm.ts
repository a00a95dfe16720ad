/**
 * Decodes the ADPCM of two makers of sound chips, which has neither blocks nor headers: each code of 4 bits follows
 * from all codes before it. OKI ADPCM (format tags 0x10 and 0x17) is that of the OKI MSM5205 and of Dialogic's
 * telephone cards; Yamaha ADPCM (0x20) is that of the Yamaha YM2608.
 */

import { imaIndexMoves, imaSteps } from "./adpcm.ts";

/** What a channel remembers from one code to the next. */
interface Channel {
  sample: number;
  /** The step itself, or its index. */
  step: number;
}

type DecodeCode = (channel: Channel, code: number) => number;

/** The codes of a maker: the state before the first one, the bits of a byte that come first, and what a code does. */
interface Codes {
  readonly firstStep: number;
  readonly firstShift: 0 | 4;
  readonly decode: DecodeCode;
}

const codesOf = {
  oki: { firstStep: 0, firstShift: 4, decode: decodeOkiCode },
  yamaha: { firstStep: 127, firstShift: 0, decode: decodeYamahaCode },
} as const satisfies Record<string, Codes>;

/** Decodes OKI or Yamaha ADPCM of 1 or 2 channels, in order. */
export class NibbleDecoder {
  readonly #codes: Codes;
  #channels: readonly Channel[];

  constructor(maker: keyof typeof codesOf, channels: number) {
    this.#codes = codesOf[maker];
    this.#channels = Array.from({ length: channels }, () => ({ sample: 0, step: this.#codes.firstStep }));
  }

  decode(bytes: Buffer): Int16Array<ArrayBuffer> {
    const { firstShift, decode } = this.#codes;
    const first = this.#channels[0]!;
    const second = this.#channels.at(-1)!;
    const samples = new Int16Array(2 * bytes.length);
    for (let i = 0; i < bytes.length; i++) {
      samples[2 * i] = decode(first, (bytes[i]! >> firstShift) & 15);
      samples[2 * i + 1] = decode(second, (bytes[i]! >> (4 - firstShift)) & 15);
    }
    return samples;
  }

  save(): readonly Channel[] {
    return this.#channels;
  }

  restore(channels: readonly Channel[]): void {
    this.#channels = channels.map((channel) => ({ ...channel }));
  }
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
