import { decodeImaBlock, decodeMsBlock, framesInImaBlock, framesInMsBlock, isImaDepth } from "./adpcm.ts";
import { G722Decoder } from "./g722.ts";
import { G726Decoder, isG726Depth } from "./g726.ts";
import { gsmBlockBytes, gsmBlockFrames, GsmDecoder } from "./gsm.ts";
import { NibbleDecoder } from "./nibble-adpcm.ts";
import type { WavFormat } from "./wav-format.ts";

/** Codecs whose samples follow from the samples before them. They are decoded block by block, in order. */
export type CodedCodec = "ms-adpcm" | "ima-adpcm" | "oki-adpcm" | "yamaha-adpcm" | "g722" | "g726" | "gsm";

/** The layout of coded sound, for one codec, number of channels and number of bits per sample. */
interface CodedFormat extends Pick<WavFormat, "channels" | "bitsPerSample" | "blockAlign"> {
  readonly codec: CodedCodec;
}

/** Decodes one sound in order. What it remembers can be saved, so that another decoder goes on. */
export interface Decoder {
  /** Decodes whole blocks, and a truncated last one, to interleaved samples. A damaged block gives none. */
  decode(blocks: Buffer): Int16Array<ArrayBuffer> | Float32Array<ArrayBuffer>;
  /** What the decoder remembers, as plain numbers, arrays and objects. */
  save(): unknown;
  /** Goes on where another decoder of the same sound was saved. */
  restore(state: unknown): void;
}

interface Coding {
  /** Its name in messages. */
  readonly name: string;
  readonly maxChannels: 1 | 2;
  /** Bits per sample, from those that the header states; undefined if there is no such coding. */
  readonly bitsPerSample: (statedBits: number) => number | undefined;
  /** Size of a block, from the one that the header states. */
  readonly blockAlign: (stated: number, channels: number, bits: number) => number;
  /** Sample frames in a block of so many bytes, whole or truncated. */
  readonly framesIn: (bytes: number, channels: number, bits: number) => number;
  /** Creates a decoder with the state at the beginning of a sound. `software` wrote the file, if it says so. */
  readonly decoder: (format: CodedFormat, software: string | undefined) => Decoder;
}

const nibbles = {
  maxChannels: 2,
  bitsPerSample: () => 4,
  blockAlign: (_: number, channels: number) => channels,
  framesIn: (bytes: number, channels: number) => Math.floor((2 * bytes) / channels),
} as const;

const codings: Readonly<Record<CodedCodec, Coding>> = {
  "ms-adpcm": {
    name: "Microsoft ADPCM",
    maxChannels: 2,
    bitsPerSample: () => 4,
    blockAlign: (stated) => stated,
    framesIn: framesInMsBlock,
    decoder: (format) => blockDecoder(format, (block) => decodeMsBlock(block, format.channels)),
  },
  "ima-adpcm": {
    name: "IMA ADPCM",
    maxChannels: 2,
    bitsPerSample: (stated) => (isImaDepth(stated) ? stated : undefined),
    blockAlign: (stated) => stated,
    framesIn: framesInImaBlock,
    decoder: (format) => blockDecoder(format, (block) => decodeImaBlock(block, format.channels, format.bitsPerSample)),
  },
  "oki-adpcm": { ...nibbles, name: "OKI ADPCM", decoder: ({ channels }) => new NibbleDecoder("oki", channels) },
  "yamaha-adpcm": {
    ...nibbles,
    name: "Yamaha ADPCM",
    decoder: ({ channels }) => new NibbleDecoder("yamaha", channels),
  },
  g722: { ...nibbles, name: "G.722", maxChannels: 1, decoder: () => new G722Decoder() },
  g726: {
    name: "G.726",
    maxChannels: 1,
    bitsPerSample: (stated) => (isG726Depth(stated) ? stated : undefined),
    blockAlign: (_stated, _channels, bits) => (bits % 2 === 1 ? bits : 1),
    framesIn: (bytes, _channels, bits) => Math.floor((8 * bytes) / bits),
    decoder: ({ bitsPerSample }, software) => new G726Decoder(bitsPerSample, software?.startsWith("Lavf")),
  },
  gsm: {
    name: "GSM 6.10",
    maxChannels: 1,
    bitsPerSample: () => 0,
    blockAlign: () => gsmBlockBytes,
    framesIn: (bytes) => (bytes === gsmBlockBytes ? gsmBlockFrames : 0),
    decoder: () => new GsmDecoder(),
  },
};

/** Whether a codec is one of those that are decoded block by block. */
export function isCoded(codec: WavFormat["codec"]): codec is CodedCodec {
  return codec in codings;
}

/**
 * The layout of coded sound, from what the header states.
 * @returns what is wrong with it, if it cannot be decoded
 */
export function codedLayout(
  codec: CodedCodec,
  channels: number,
  stated: { readonly bits: number; readonly blockAlign: number },
): Pick<WavFormat, "bitsPerSample" | "containerBits" | "blockAlign" | "framesPerBlock"> | string {
  const coding = codings[codec];
  if (channels > coding.maxChannels) return `${coding.name} of ${channels} channels`;
  const bits = coding.bitsPerSample(stated.bits);
  if (bits === undefined) return `${coding.name} of ${stated.bits} bits a sample`;
  const blockAlign = coding.blockAlign(stated.blockAlign, channels, bits);
  const framesPerBlock = coding.framesIn(blockAlign, channels, bits);
  // A block of one frame is only a header. Everywhere else, blocks of several frames tell coded sound from PCM.
  if (framesPerBlock < 2) return `${coding.name} blocks of ${blockAlign} bytes, which contain no sound`;
  return { bitsPerSample: bits, containerBits: bits, blockAlign, framesPerBlock };
}

/** Sample frames in one block of coded sound, whole or truncated; 0 for codecs that have no blocks. */
export function framesInBlock(
  { codec, channels, bitsPerSample }: Omit<CodedFormat, "codec" | "blockAlign"> & Pick<WavFormat, "codec">,
  bytes: number,
): number {
  return isCoded(codec) ? codings[codec].framesIn(bytes, channels, bitsPerSample) : 0;
}

/**
 * Creates a decoder for one sound; undefined if the codec has no blocks. `software` is what the file names as its
 * writer, before the sound.
 */
export function codedDecoder(format: WavFormat, software: string | undefined): Decoder | undefined {
  const { codec } = format;
  return isCoded(codec) ? codings[codec].decoder({ ...format, codec }, software) : undefined;
}

/** Decodes blocks that are independent of one another. */
function blockDecoder(
  { codec, channels, bitsPerSample, blockAlign }: CodedFormat,
  decodeBlock: (block: Buffer) => Int16Array,
): Decoder {
  const framesPerBlock = codings[codec].framesIn(blockAlign, channels, bitsPerSample);
  const decode = (blocks: Buffer): Int16Array<ArrayBuffer> => {
    const samples = new Int16Array(Math.ceil(blocks.length / blockAlign) * framesPerBlock * channels);
    let length = 0;
    for (let start = 0; start < blocks.length; start += blockAlign) {
      const decoded = decodeBlock(blocks.subarray(start, start + blockAlign));
      samples.set(decoded, length);
      length += decoded.length;
    }
    return samples.subarray(0, length);
  };
  return { decode, save: () => undefined, restore() {} };
}
