import { ServiceError } from "../errors.ts";
import { framesInImaBlock, framesInMsBlock, isImaDepth } from "./adpcm.ts";
import { id3TagBytes, isKnownInfo, maxTagBytes, WavTags } from "./wav-tags.ts";

/** What the chunks before the sound say about it. */
export interface WavFormat {
  readonly container: "RIFF" | "RIFX" | "RF64" | "BW64";
  readonly codec: "pcm" | "float" | "alaw" | "mulaw" | "ms-adpcm" | "ima-adpcm";
  /** The bits of a sample that carry sound: 20 in a container of 24, 4 in ADPCM. */
  readonly bitsPerSample: number;
  /** The bits that a sample takes in the file; shorter samples stand left-justified in them. */
  readonly containerBits: number;
  readonly sampleRateHz: number;
  /** From 1 to 8. */
  readonly channels: number;
  /** Speaker positions, one bit a channel (`dwChannelMask`); 0 when the file states none. */
  readonly channelMask: number;
  /** Bytes of one block: one sample of every channel, or one block of ADPCM. */
  readonly blockAlign: number;
  /** Sample frames in a whole block: 1 except in ADPCM. */
  readonly framesPerBlock: number;
  /** Whether samples of several bytes begin with their highest (RIFX). */
  readonly bigEndian: boolean;
  /** What full scale is in floats: 1, or 32768 in the "16.8 float" files of Cool Edit. */
  readonly floatFullScale: 1 | 32_768;
}

/** Something odd about a file whose sound could be read all the same. */
export type WavRemark = "CUT_SHORT" | "TRAILING_JUNK";

/** A WAV whose header was read, and whose sound waits to be. */
export interface WavFile extends AsyncDisposable {
  readonly format: WavFormat;
  /** Sample frames the header promises; undefined when it leaves the size open, or states another one for the file. */
  readonly announcedFrames: number | undefined;
  /**
   * The sound in whole blocks, many in one Buffer; a last ADPCM block may be cut short. It can be iterated once, and
   * reads the source to its end. Failures of the source pass through unchanged.
   */
  blocks(): AsyncGenerator<Buffer, void, void>;
  /** Tags found so far: complete once `blocks()` has ended, as they may stand behind the sound. */
  readonly tags: WavTags;
  /** What was odd: complete once `blocks()` has ended. */
  readonly remarks: ReadonlySet<WavRemark>;
}

const minSampleRateHz = 2000;
const maxSampleRateHz = 384_000;
const maxChannels = 8;

/** Sound passes on in pieces of about this size, whatever the source's pieces are. */
const pieceBytes = 128 * 1024;
/** No more than this much of an ID3 tag or a `bext` chunk is kept to be looked at; pictures can be large. */
const maxTagChunkBytes = 1024 * 1024;
/** Files have a few dozen chunks; more than these would only cost time. */
const maxChunkCount = 100_000;

/**
 * Reads a WAV up to its first block of sound. RIFF and `fmt `: Microsoft and IBM, Multimedia Programming Interface 1.0,
 * and Microsoft's WAVEFORMATEXTENSIBLE; RF64 and BW64: EBU Tech 3306, ITU-R BS.2088. Headers that are wrong about
 * sizes are read as players read them: the sound goes on to the end of the file. A file that is refused is closed.
 *
 * @throws {ServiceError} UNSUPPORTED_MEDIA at the first byte that shows it; UPLOAD_INCOMPLETE if there is no sound.
 */
export async function openWav(source: AsyncIterable<Buffer>): Promise<WavFile> {
  const bytes = new ByteReader(source);
  try {
    const tags = new WavTags();
    const file = new ChunkReader(bytes, await readContainer(bytes, tags), tags);
    const sound = file.sound();
    const first = await sound.next();
    if (first.done || file.format === undefined) throw noSound();
    const blocks = allBlocks(bytes, first.value, sound);
    return {
      format: file.format,
      announcedFrames: file.announcedFrames,
      tags: file.tags,
      remarks: file.remarks,
      blocks: () => blocks,
      [Symbol.asyncDispose]: async () => await bytes.close(),
    };
  } catch (error) {
    await bytes.close();
    throw error;
  }
}

/** Sample frames in so many bytes of sound, counting a last ADPCM block that is cut short as decoders do. */
export function framesIn(format: WavFormat, bytes: number): number {
  const rest = bytes % format.blockAlign;
  return Math.floor(bytes / format.blockAlign) * format.framesPerBlock + framesInBlock(format, rest);
}

async function* allBlocks(bytes: ByteReader, first: Buffer, rest: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void> {
  try {
    yield first;
    yield* rest;
  } finally {
    await bytes.close();
  }
}

function framesInBlock(format: Pick<WavFormat, "codec" | "channels" | "bitsPerSample">, bytes: number): number {
  switch (format.codec) {
    case "ms-adpcm":
      return framesInMsBlock(bytes, format.channels);
    case "ima-adpcm":
      return framesInImaBlock(bytes, format.channels, format.bitsPerSample);
    default:
      return 0;
  }
}

/** What the first 12 bytes say: the kind of file, and how much follows them, which is often wrong. */
interface Container {
  readonly id: WavFormat["container"];
  readonly bytes: number;
}

/** Reads the first 12 bytes; players pass over an ID3v2 tag in front of them, and so does this. */
async function readContainer(bytes: ByteReader, tags: WavTags): Promise<Container> {
  const start = await bytes.read(4);
  if (start.toString("latin1", 0, 3) === "ID3") {
    const header = Buffer.concat([start, await bytes.read(6)]);
    const bodyBytes = (id3TagBytes(header) ?? 10) - 10;
    const body = await bytes.read(Math.min(bodyBytes, maxTagChunkBytes));
    tags.addId3(Buffer.concat([header, body]));
    await bytes.skip(bodyBytes - body.length);
    const next = await bytes.read(4);
    if (!isContainer(next.toString("latin1"))) throw notWav("MP3");
    return await readForm(bytes, next.toString("latin1"));
  }
  return await readForm(bytes, start.toString("latin1"));
}

async function readForm(bytes: ByteReader, container: string): Promise<Container> {
  if (container.length < 4) {
    if (["RIFF", "RIFX", "RF64", "BW64"].some((name) => name.startsWith(container))) throw noSound();
    throw notWav();
  }
  if (!isContainer(container)) throw notWav(kindOf(container));
  const header = await bytes.read(8);
  const form = header.toString("latin1", 4);
  if (form.length < 4 && "WAVE".startsWith(form)) throw noSound();
  if (form !== "WAVE") throw notWav(`a RIFF file of another kind ("${printable(form)}")`);
  return { id: container, bytes: container === "RIFX" ? header.readUInt32BE(0) : header.readUInt32LE(0) };
}

function isContainer(id: string): id is WavFormat["container"] {
  return id === "RIFF" || id === "RIFX" || id === "RF64" || id === "BW64";
}

/** What a file is that people send instead of a WAV, by its first four bytes. */
function kindOf(start: string): string | undefined {
  const kinds: Readonly<Record<string, string>> = {
    fLaC: "FLAC",
    OggS: "Ogg",
    FORM: "AIFF",
    caff: "CAF",
    riff: "Wave64",
    "PK\x03\x04": "a ZIP archive",
    "%PDF": "a PDF",
    "\x1aE\xdf\xa3": "WebM or Matroska",
    "\x30\x26\xb2\x75": "WMA",
    ".snd": "AU",
  };
  if (/^\xff[\xe2-\xfd]/u.test(start)) return "MP3 or AAC";
  return /^\0{3}[^\0]/u.test(start) ? "MP4" : kinds[start];
}

/** Walks through the chunks of the file: those before the sound, the sound, those behind it. */
class ChunkReader {
  readonly tags: WavTags;
  readonly remarks = new Set<WavRemark>();
  format: WavFormat | undefined;
  announcedFrames: number | undefined;
  readonly #bytes: ByteReader;
  readonly #container: WavFormat["container"];
  readonly #bigEndian: boolean;
  /** Size of the file by its own word. */
  #fileBytes: number;
  /** Size of the sound by the `ds64` chunk; 0 where that leaves it open or there is none. */
  #ds64DataBytes = 0;
  /** Whether the last chunk had an odd size, so that a pad byte should follow. */
  #atPad = false;

  constructor(bytes: ByteReader, container: Container, tags: WavTags) {
    this.tags = tags;
    this.#bytes = bytes;
    this.#container = container.id;
    this.#bigEndian = container.id === "RIFX";
    this.#fileBytes = container.bytes;
  }

  /** The sound of all `data` chunks; everything else is read on the way. */
  async *sound(): AsyncGenerator<Buffer, void, void> {
    if (this.#container === "RF64" || this.#container === "BW64") await this.#readDs64();
    let found = false;
    let count = 0;
    for (let chunk = await this.#nextChunk(); chunk !== undefined; chunk = await this.#nextChunk()) {
      if (++count > maxChunkCount && !found) throw unsupported(`more than ${maxChunkCount} chunks before its sound`);
      if (count > maxChunkCount || (found && !/^[\x20-\x7e]{4}$/u.test(chunk.id))) {
        this.remarks.add("TRAILING_JUNK");
        await this.#bytes.skip(Infinity);
      } else if (chunk.id === "data") {
        for await (const piece of this.#soundOf(chunk.bytes, found)) {
          found = true;
          yield piece;
        }
      } else if (chunk.id === "fmt " && this.format === undefined) {
        await this.#readFormat(chunk.bytes);
      } else if (!(await this.#readOther(chunk)) && found) {
        this.remarks.add("TRAILING_JUNK");
      }
    }
  }

  /** The next chunk's header. Writers forget pad bytes: where one should be, the chunk's name tells if it is there. */
  async #nextChunk(): Promise<{ readonly id: string; readonly bytes: number } | undefined> {
    let header = await this.#bytes.read(this.#atPad ? 9 : 8);
    if (this.#atPad) {
      const isPadded = !isKnownChunk(header.toString("latin1", 0, 4)) || isKnownChunk(header.toString("latin1", 1, 5));
      if (!isPadded) this.#bytes.unread(header.subarray(8));
      header = isPadded ? header.subarray(1) : header.subarray(0, 8);
    }
    if (header.length < 8) {
      if (this.format !== undefined && header.length > 0) this.remarks.add("TRAILING_JUNK");
      return undefined;
    }
    const bytes = this.#uint32(header, 4);
    this.#atPad = bytes % 2 === 1;
    return { id: header.toString("latin1", 0, 4), bytes };
  }

  /** The sound of one `data` chunk. */
  async *#soundOf(statedBytes: number, isLater: boolean): AsyncGenerator<Buffer, void, void> {
    const format = this.format;
    if (format === undefined) {
      throw new ServiceError("UNSUPPORTED_MEDIA", "The WAV does not state its format before its sound begins.");
    }
    const size = this.#ds64DataBytes > 0 && !isLater ? this.#ds64DataBytes : statedBytes;
    const isOpen = size === 0 ? !isKnownChunk(await this.#bytes.peek(4)) : isPlaceholder(size);
    const promised = isOpen ? Infinity : size;
    this.#atPad = size % 2 === 1;
    // A size of sound beyond that of the file was never filled in: nothing may be refused for it.
    if (!isLater) this.announcedFrames = isOpen || size > this.#fileBytes ? undefined : framesIn(format, size);
    const got = yield* this.#wholeBlocks(format, promised);
    if (!isOpen && framesIn(format, got) < framesIn(format, promised)) this.remarks.add("CUT_SHORT");
  }

  /** Cuts up to `limit` bytes into pieces of whole blocks, without copying where the source's pieces fit. */
  async *#wholeBlocks(format: WavFormat, limit: number): AsyncGenerator<Buffer, number, void> {
    const { blockAlign } = format;
    const step = Math.max(pieceBytes - (pieceBytes % blockAlign), blockAlign);
    let got = 0;
    let rest: Buffer = Buffer.alloc(0);
    while (got < limit) {
      const taken = await this.#bytes.take(limit - got);
      if (taken === undefined) break;
      got += taken.length;
      // Only the block that is cut in two is put together: copying all that follows would double the garbage.
      const completing = rest.length === 0 ? 0 : Math.min(blockAlign - rest.length, taken.length);
      if (completing > 0) {
        rest = Buffer.concat([rest, taken.subarray(0, completing)]);
        if (rest.length < blockAlign) continue;
        yield rest;
      }
      const whole = taken.length - ((taken.length - completing) % blockAlign);
      for (let start = completing; start < whole; start += step)
        yield taken.subarray(start, Math.min(start + step, whole));
      rest = taken.subarray(whole);
    }
    if (framesInBlock(format, rest.length) > 0) yield rest;
    return got;
  }

  /** RF64 and BW64 begin with the true sizes, as their 32-bit fields cannot hold them. */
  async #readDs64(): Promise<void> {
    const chunk = await this.#nextChunk();
    if (chunk === undefined) throw noSound();
    if (chunk.id !== "ds64" || chunk.bytes < 24) {
      throw new ServiceError("UNSUPPORTED_MEDIA", `The ${this.#container} file does not begin with its sizes (ds64).`);
    }
    const sizes = await this.#bytes.read(24);
    if (sizes.length < 24) throw noSound();
    const dataBytes = sizes.readBigUInt64LE(8);
    if (dataBytes >= 2n ** 63n) {
      throw new ServiceError("UNSUPPORTED_MEDIA", `The WAV states an impossible size of ${dataBytes} bytes of sound.`);
    }
    this.#ds64DataBytes = Number(dataBytes);
    this.#fileBytes = Number(sizes.readBigUInt64LE(0));
    await this.#bytes.skip(chunk.bytes - 24);
  }

  async #readFormat(size: number): Promise<void> {
    const wanted = Math.min(size, 40);
    const fmt = await this.#bytes.read(wanted);
    if (fmt.length < wanted) throw noSound();
    this.format = this.#parseFormat(fmt);
    await this.#bytes.skip(size - wanted);
  }

  #parseFormat(fmt: Buffer): WavFormat {
    if (fmt.length < 14) throw unsupported(`a format chunk of ${fmt.length} bytes, fewer than 14`);
    const isExtensible = this.#uint16(fmt, 0) === 0xfffe;
    if (isExtensible && fmt.length < 40) throw unsupported(`an extensible format chunk of ${fmt.length} bytes`);
    const isCoolEdit = fmt.toString("hex", 14, 20) === "200002000100" && fmt.toString("hex", 0, 2) === "0100";
    const codec = isCoolEdit ? "float" : codecOf(isExtensible ? this.#subFormat(fmt) : this.#uint16(fmt, 0));
    const channels = this.#uint16(fmt, 2);
    if (channels < 1 || channels > maxChannels) throw unsupported(`${channels} channels, not 1 to ${maxChannels}`);
    const sampleRateHz = this.#uint32(fmt, 4);
    if (sampleRateHz < minSampleRateHz || sampleRateHz > maxSampleRateHz) {
      throw unsupported(`a sample rate of ${sampleRateHz} Hz, not ${minSampleRateHz} to ${maxSampleRateHz}`);
    }
    const validBits = isExtensible ? this.#uint16(fmt, 18) : 0;
    return {
      container: this.#container,
      codec,
      sampleRateHz,
      channels,
      channelMask: isExtensible ? this.#uint32(fmt, 20) : 0,
      bigEndian: this.#bigEndian,
      floatFullScale: isCoolEdit ? 32_768 : 1,
      ...blocksOf(codec, channels, {
        bytesPerSecond: this.#uint32(fmt, 8),
        sampleRateHz,
        blockAlign: this.#uint16(fmt, 12),
        bits: fmt.length >= 16 ? mostLikelyBits(this.#uint16(fmt, 14), validBits) : undefined,
        validBits,
      }),
    };
  }

  /** The format tag that an extensible header keeps in its GUID, for plain and for ambisonic sound. */
  #subFormat(fmt: Buffer): number {
    const isKnown = /^(?:0000(?:1000|0010)800000aa00389b71|(?:2107d311|072111d3)8644c8c1ca000000)$/u;
    if (!isKnown.test(fmt.toString("hex", 28, 40))) return 0;
    if (!this.#bigEndian) return fmt.readUInt32LE(24);
    // Writers of RIFX disagree: the GUID's first four bytes turned around, or its first two (SoX), or none.
    const at = fmt.readUInt16BE(26) === 0 ? 24 : 26;
    return Math.min(fmt.readUInt16BE(at), fmt.readUInt16LE(at));
  }

  /** Reads a chunk that is not sound; false if it has no known name and the file ends within it. */
  async #readOther({ id, bytes }: { readonly id: string; readonly bytes: number }): Promise<boolean> {
    let left = bytes;
    if (id === "LIST" && bytes >= 4) {
      left -= 4;
      if ((await this.#bytes.read(4)).toString("latin1") === "INFO") left = await this.#readInfo(left);
    } else if (id === "bext" || id.toLowerCase() === "id3 ") {
      const chunk = await this.#bytes.read(Math.min(bytes, maxTagChunkBytes));
      left -= chunk.length;
      if (id === "bext") this.tags.addBext(chunk);
      else this.tags.addId3(chunk);
    }
    return (await this.#bytes.skip(left)) === left || isKnownChunk(id);
  }

  /** Reads the sub-chunks of a LIST of form INFO; returns how many of its bytes are left. */
  async #readInfo(bytes: number): Promise<number> {
    let left = bytes;
    for (let count = 0; left >= 8 && count < maxChunkCount; count++) {
      const header = await this.#bytes.read(8);
      left -= header.length;
      if (header.length < 8) break;
      const id = header.toString("latin1", 0, 4);
      const size = Math.min(this.#uint32(header, 4), left);
      const value = await this.#bytes.read(isKnownInfo(id) ? Math.min(size, maxTagBytes) : 0);
      this.tags.addInfo(id, value);
      const padded = Math.min(size + (size % 2), left);
      await this.#bytes.skip(padded - value.length);
      left -= padded;
    }
    return left;
  }

  #uint16(bytes: Buffer, offset: number): number {
    return this.#bigEndian ? bytes.readUInt16BE(offset) : bytes.readUInt16LE(offset);
  }

  #uint32(bytes: Buffer, offset: number): number {
    return this.#bigEndian ? bytes.readUInt32BE(offset) : bytes.readUInt32LE(offset);
  }
}

/** Codecs by format tag (RFC 2361, and Microsoft's mmreg.h); 0x69 and 0x6C75 are Xbox's and VoxWare's second names. */
const codecs: Readonly<Record<number, WavFormat["codec"]>> = {
  0x0001: "pcm",
  0x0002: "ms-adpcm",
  0x0003: "float",
  0x0006: "alaw",
  0x0007: "mulaw",
  0x0011: "ima-adpcm",
  0x0069: "ima-adpcm",
  0x6c75: "mulaw",
};

const otherCodecs: Readonly<Record<number, string>> = {
  0x0008: "DTS",
  0x0010: "OKI ADPCM",
  0x0020: "Yamaha ADPCM",
  0x0022: "TrueSpeech",
  0x0031: "GSM 6.10",
  0x0042: "G.723.1",
  0x0045: "G.726",
  0x0050: "MPEG Layer II",
  0x0055: "MP3",
  0x00ff: "AAC",
  0x0161: "WMA",
  0x2000: "AC-3",
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
  /** Undefined in a format chunk of 14 bytes, which has no room for it. */
  readonly bits: number | undefined;
  /** 0 when not stated. */
  readonly validBits: number;
}

/** How sound stands in the file, from figures that may contradict each other. */
function blocksOf(
  codec: WavFormat["codec"],
  channels: number,
  stated: StatedSizes,
): Pick<WavFormat, "bitsPerSample" | "containerBits" | "blockAlign" | "framesPerBlock"> {
  if (codec === "ms-adpcm" || codec === "ima-adpcm") {
    if (channels > 2) throw unsupported(`ADPCM of ${channels} channels`);
    const bits = codec === "ms-adpcm" ? 4 : (stated.bits ?? 0);
    if (codec === "ima-adpcm" && !isImaDepth(bits)) throw unsupported(`IMA ADPCM of ${bits} bits a sample`);
    const framesPerBlock = framesInBlock({ codec, channels, bitsPerSample: bits }, stated.blockAlign);
    if (framesPerBlock === 0) throw unsupported(`ADPCM blocks of ${stated.blockAlign} bytes, which hold no sound`);
    return { bitsPerSample: bits, containerBits: bits, blockAlign: stated.blockAlign, framesPerBlock };
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

/** Bytes of one sample. `blockAlign` is often wrong, and believed only where samples plainly are padded to it. */
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

/** The bits of an extensible header are those of the container, unless that is impossible. */
function mostLikelyBits(bits: number, validBits: number): number {
  return validBits > 0 && (bits > 64 || bits < validBits) ? validBits : bits;
}

/** Sizes that programs leave in a header that they could not go back to. */
function isPlaceholder(dataBytes: number): boolean {
  return (
    (dataBytes >= 0x7fff_f000 && dataBytes <= 0x8000_0000) || (dataBytes >= 0xffff_f000 && dataBytes <= 0xffff_ffff)
  );
}

/** Names of chunks that stand in WAV files, told apart by them from sound and from pad bytes. */
const knownChunks = new Set(
  (
    "fmt ,data,fact,LIST,bext,id3 ,ID3 ,cue ,smpl,inst,acid,JUNK,junk,PAD ,FLLR,iXML,aXML,axml,chna,cart,PEAK,DISP," +
    "plst,_PMX,afsp,umid,minf,elm1,regn,levl,LGWV,ResU,strc,wavl,slnt,qlty,mext,link,ds64,CSET,bxml,sxml"
  ).split(","),
);

function isKnownChunk(id: string): boolean {
  return knownChunks.has(id);
}

function printable(id: string): string {
  return id.replaceAll(/[^\x20-\x7e]/gu, "?");
}

function noSound(): ServiceError {
  return new ServiceError("UPLOAD_INCOMPLETE", "The file ended before its sound began. Send the whole file.");
}

function notWav(kind?: string): ServiceError {
  const guess = kind === undefined ? "" : ` It looks like ${kind}.`;
  return new ServiceError("UNSUPPORTED_MEDIA", `The file is not a WAV.${guess}`);
}

function unsupported(what: string): ServiceError {
  return new ServiceError("UNSUPPORTED_MEDIA", `The WAV has ${what}, which cannot be converted.`);
}

/** Reads a stream in portions of any size, without copying where a portion lies in one piece. */
class ByteReader {
  readonly #source: AsyncIterator<Buffer>;
  #piece: Buffer = Buffer.alloc(0);
  #ended = false;

  constructor(source: AsyncIterable<Buffer>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** What is at hand, at most `limit` bytes; undefined at the end. */
  async take(limit: number): Promise<Buffer | undefined> {
    while (this.#piece.length === 0) {
      if (this.#ended) return undefined;
      this.#ended = true; // also where the source throws: there is nothing to close then
      const next = await this.#source.next();
      if (next.done) return undefined;
      this.#ended = false;
      this.#piece = next.value;
    }
    const taken = this.#piece.subarray(0, limit);
    this.#piece = this.#piece.subarray(taken.length);
    return taken;
  }

  /** The next `length` bytes, or fewer at the end. */
  async read(length: number): Promise<Buffer> {
    const first = length === 0 ? undefined : await this.take(length);
    if (first === undefined || first.length === length) return first ?? Buffer.alloc(0);
    const joined = Buffer.allocUnsafe(length);
    let at = first.copy(joined);
    while (at < length) {
      const next = await this.take(length - at);
      if (next === undefined) break;
      at += next.copy(joined, at);
    }
    return joined.subarray(0, at);
  }

  /** Passes over so many bytes; returns how many there were. */
  async skip(length: number): Promise<number> {
    let skipped = 0;
    while (skipped < length) {
      const part = await this.take(length - skipped);
      if (part === undefined) break;
      skipped += part.length;
    }
    return skipped;
  }

  /** The next bytes as Latin-1 text, which stay to be read. */
  async peek(length: number): Promise<string> {
    const ahead = await this.read(length);
    this.unread(ahead);
    return ahead.toString("latin1");
  }

  /** Puts bytes back, to be read next. */
  unread(bytes: Buffer): void {
    this.#piece = this.#piece.length === 0 ? bytes : Buffer.concat([bytes, this.#piece]);
  }

  async close(): Promise<void> {
    this.#piece = Buffer.alloc(0);
    if (this.#ended) return;
    this.#ended = true;
    await this.#source.return?.();
  }
}
