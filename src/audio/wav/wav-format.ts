import { isDeepStrictEqual } from "node:util";
import { ServiceError } from "../../errors/errors.ts";
import { codedLayout, framesInBlock, isCoded, type CodedCodec } from "./coded-sound.ts";

/** The format of the sound, from the chunks before it. */
export interface WavFormat {
  readonly container: "RIFF" | "RIFX" | "RF64" | "BW64";
  readonly codec: "pcm" | "float" | "alaw" | "mulaw" | CodedCodec | MpegCodec;
  /**
   * Bits of a sample that carry sound, for example 20 in a container of 24, or 4 in ADPCM; 0 if they vary, as in GSM
   * and MP3.
   */
  readonly bitsPerSample: number;
  /** Bits that a sample occupies in the file, or after decoding. Shorter samples are left-justified in them. */
  readonly containerBits: number;
  readonly sampleRateHz: number;
  /** From 1 to 64. */
  readonly channels: number;
  /** Speaker positions, one bit per channel (`dwChannelMask`); 0 if the file states none. */
  readonly channelMask: number;
  /** Whether the channels are ambisonic B-format, according to the header's GUID. */
  readonly isAmbisonic?: true;
  /** Bytes of one block: one sample of every channel, or one block of coded sound. */
  readonly blockAlign: number;
  /** Sample frames in a whole block: 1 except in coded sound. */
  readonly framesPerBlock: number;
  /** Whether samples are big-endian (RIFX). */
  readonly bigEndian: boolean;
  /** Full scale of floats: 1, or 32768 in the "16.8 float" files of Cool Edit. */
  readonly floatFullScale: 1 | 32_768;
}

/** MPEG audio of Layer II and III. */
type MpegCodec = "mp2" | "mp3";

/** Upper bound of the sample frames in a byte of MPEG audio: 8 kbit/s at 24 kHz. */
const maxMpegFramesPerByte = 24;

const minSampleRateHz = 1000;
const maxSampleRateHz = 768_000;
const maxChannels = 64;

/** Whether the sound is MPEG audio, whose bytes do not tell how many samples they are. */
export function isMpeg(codec: WavFormat["codec"]): codec is MpegCodec {
  return codec === "mp2" || codec === "mp3";
}

/**
 * Sample frames in this number of bytes of sound (at most so many, in MPEG audio), including those of a truncated last
 * block.
 */
export function framesIn(format: WavFormat, bytes: number): number {
  const rest = bytes % format.blockAlign;
  return Math.floor(bytes / format.blockAlign) * format.framesPerBlock + framesInBlock(format, rest);
}

/**
 * Reads the body of a `fmt ` chunk, or its first 40 bytes.
 * @throws {ServiceError} UNSUPPORTED_MEDIA if the sound cannot be converted
 */
export function parseFormat(fmt: Buffer, container: WavFormat["container"]): WavFormat {
  const bigEndian = isBigEndian(container);
  if (fmt.length < 14) throw unsupported(`a format chunk of ${fmt.length} bytes, fewer than 14`);
  const isExtensible = uint16(fmt, 0, bigEndian) === 0xfffe;
  if (isExtensible && fmt.length < 40) throw unsupported(`an extensible format chunk of ${fmt.length} bytes`);
  const isCoolEdit = fmt.toString("hex", 14, 20) === "200002000100" && fmt.toString("hex", 0, 2) === "0100";
  const codec = isCoolEdit ? "float" : codecOf(isExtensible ? subFormat(fmt, bigEndian) : uint16(fmt, 0, bigEndian));
  const channels = uint16(fmt, 2, bigEndian);
  if (channels < 1 || channels > maxChannels) throw unsupported(`${channels} channels, not 1 to ${maxChannels}`);
  const sampleRateHz = uint32(fmt, 4, bigEndian);
  if (sampleRateHz < minSampleRateHz || sampleRateHz > maxSampleRateHz) {
    throw unsupported(`a sample rate of ${sampleRateHz} Hz, not ${minSampleRateHz} to ${maxSampleRateHz}`);
  }
  const validBits = isExtensible ? uint16(fmt, 18, bigEndian) : 0;
  return {
    container,
    codec,
    sampleRateHz,
    channels,
    channelMask: isExtensible ? uint32(fmt, 20, bigEndian) : 0,
    ...(isExtensible && fmt.toString("hex", 32, 40) === "8644c8c1ca000000" && { isAmbisonic: true }),
    bigEndian,
    floatFullScale: isCoolEdit ? 32_768 : 1,
    ...blocksOf(codec, channels, {
      bytesPerSecond: uint32(fmt, 8, bigEndian),
      sampleRateHz,
      blockAlign: uint16(fmt, 12, bigEndian),
      bits: fmt.length >= 16 ? mostLikelyBits(uint16(fmt, 14, bigEndian), validBits) : undefined,
      validBits,
    }),
  };
}

/** The format tag in the GUID of an extensible header, for plain and for ambisonic sound. */
function subFormat(fmt: Buffer, bigEndian: boolean): number {
  const isKnown = /^(?:0000(?:1000|0010)800000aa00389b71|(?:2107d311|072111d3)8644c8c1ca000000)$/u;
  if (!isKnown.test(fmt.toString("hex", 28, 40))) return 0;
  if (!bigEndian) return fmt.readUInt32LE(24);
  // Programs that write RIFX disagree: they reverse the GUID's first four bytes, its first two (SoX), or none.
  const at = fmt.readUInt16BE(26) === 0 ? 24 : 26;
  return Math.min(fmt.readUInt16BE(at), fmt.readUInt16LE(at));
}

/** Whether the numbers in the file are big-endian. */
export function isBigEndian(container: WavFormat["container"]): boolean {
  return container === "RIFX";
}

export function uint16(bytes: Buffer, offset: number, bigEndian: boolean): number {
  return bigEndian ? bytes.readUInt16BE(offset) : bytes.readUInt16LE(offset);
}

export function uint32(bytes: Buffer, offset: number, bigEndian: boolean): number {
  return bigEndian ? bytes.readUInt32BE(offset) : bytes.readUInt32LE(offset);
}

/**
 * Codecs by format tag (RFC 2361, and Microsoft's mmreg.h); 0x69 and 0x6C75 are alternatives from Xbox and VoxWare.
 * G.721 (0x40) is G.726 at 32 kbit/s, and the G.723 of 1988 (0x14) is G.726 at 24 and 40 kbit/s.
 */
const codecs: Readonly<Record<number, WavFormat["codec"]>> = {
  0x0001: "pcm",
  0x0002: "ms-adpcm",
  0x0003: "float",
  0x0006: "alaw",
  0x0007: "mulaw",
  0x0010: "oki-adpcm",
  0x0011: "ima-adpcm",
  0x0014: "g726",
  0x0017: "oki-adpcm",
  0x0020: "yamaha-adpcm",
  0x0031: "gsm",
  0x0040: "g726",
  0x0045: "g726",
  0x0050: "mp2",
  0x0055: "mp3",
  0x0064: "g726",
  0x0065: "g722",
  0x0069: "ima-adpcm",
  0x028f: "g722",
  0x6c75: "mulaw",
};

const otherCodecs: Readonly<Record<number, string>> = {
  0x0008: "DTS",
  0x0022: "TrueSpeech",
  0x0042: "G.723.1",
  0x0092: "AC-3",
  0x00ff: "AAC",
  0x0161: "WMA",
  0x0162: "WMA",
  0x0163: "WMA",
  0x0270: "ATRAC3",
  0x1600: "AAC",
  0x1602: "AAC",
  0x2000: "AC-3",
  0x2001: "DTS",
  0x674f: "Vorbis",
  0x6750: "Vorbis",
  0x6751: "Vorbis",
  0xa109: "Speex",
  0xf1ac: "FLAC",
};

function codecOf(formatTag: number): WavFormat["codec"] {
  const codec = codecs[formatTag];
  if (codec !== undefined) return codec;
  const tag = `0x${formatTag.toString(16).toUpperCase().padStart(4, "0")}`;
  throw unsupported(`sound coded as ${otherCodecs[formatTag] ?? "something unknown"} (format tag ${tag})`);
}

interface StatedSizes {
  readonly bytesPerSecond: number;
  readonly sampleRateHz: number;
  readonly blockAlign: number;
  /** Undefined in a format chunk of 14 bytes, which does not have this field. */
  readonly bits: number | undefined;
  /** 0 if not stated. */
  readonly validBits: number;
}

/** The layout of the sound in the file, from values that may contradict one another. */
function blocksOf(
  codec: WavFormat["codec"],
  channels: number,
  stated: StatedSizes,
): Pick<WavFormat, "bitsPerSample" | "containerBits" | "blockAlign" | "framesPerBlock"> {
  if (isCoded(codec)) {
    const layout = codedLayout(codec, channels, { bits: stated.bits ?? 0, blockAlign: stated.blockAlign });
    if (typeof layout === "string") throw unsupported(layout);
    return layout;
  }
  if (isMpeg(codec)) {
    return { bitsPerSample: 0, containerBits: 32, blockAlign: 1, framesPerBlock: maxMpegFramesPerByte };
  }
  const bytes = codec === "alaw" || codec === "mulaw" ? 1 : sampleBytes(codec, channels, stated);
  const { validBits, bits = 0 } = stated;
  const bitsPerSample = [validBits, bits].find((value) => value > 0 && value <= 8 * bytes) ?? 8 * bytes;
  return {
    bitsPerSample: codec === "pcm" ? bitsPerSample : 8 * bytes,
    containerBits: 8 * bytes,
    blockAlign: bytes * channels,
    framesPerBlock: 1,
  };
}

/** Bytes per sample. `blockAlign` is often wrong; it counts only if samples are clearly padded to it. */
function sampleBytes(codec: "pcm" | "float", channels: number, stated: StatedSizes): number {
  const { bits, blockAlign, bytesPerSecond, sampleRateHz } = stated;
  const byAlign = blockAlign / channels;
  const byBits = bits === undefined ? byAlign : Math.ceil(bits / 8);
  const isOdd = byBits > 1 && byBits * 8 !== bits && bytesPerSecond === sampleRateHz * blockAlign;
  const isWider = byAlign > byBits && (bits === 24 ? byAlign === 4 : isOdd || byBits > 4);
  const bytes = codec === "pcm" && isWider && [2, 3, 4, 8].includes(byAlign) ? byAlign : byBits;
  if (!(codec === "pcm" ? [1, 2, 3, 4, 8] : [4, 8]).includes(bytes) || (codec === "float" && (bits ?? 0) % 32 !== 0)) {
    throw unsupported(`samples of ${bits ?? 8 * byAlign} bits (${codec === "pcm" ? "integers" : "floating point"})`);
  }
  return bytes;
}

/** In an extensible header, `bits` is the size of the container, unless that is impossible. */
function mostLikelyBits(bits: number, validBits: number): number {
  return validBits > 0 && (bits > 64 || bits < validBits) ? validBits : bits;
}

/** The error for a WAV whose sound cannot be converted. */
export function unsupported(what: string): ServiceError {
  return new ServiceError(
    "UNSUPPORTED_MEDIA",
    `The WAV has ${what}, which cannot be converted. Export it as WAV (PCM).`,
  );
}

/** The error for a WAV whose header says PCM although it contains something else. */
export function disguised(what: string): ServiceError {
  return new ServiceError(
    "UNSUPPORTED_MEDIA",
    `This WAV contains ${what}, although its header says PCM. Export the sound as PCM.`,
  );
}

/** Whether sound of both formats can be joined: they differ only in how they state the same format. */
export function isSameSound(one: WavFormat, other: WavFormat): boolean {
  const masks = new Set([one.channelMask, other.channelMask, 0]);
  if (one.channels > 2 && masks.size > 2) return false;
  const { container, bitsPerSample, channelMask } = one;
  return isDeepStrictEqual(one, { ...other, container, bitsPerSample, channelMask });
}

/** The byte that stands for silence: it is not zero for unsigned and logarithmic samples. */
export function silenceByte({ codec, containerBits }: WavFormat): number {
  if (codec === "alaw") return 0xd5;
  if (codec === "mulaw") return 0xff;
  return codec === "pcm" && containerBits === 8 ? 0x80 : 0;
}
