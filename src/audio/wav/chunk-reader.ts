import { setImmediate } from "node:timers/promises";
import { ServiceError } from "../../errors/errors.ts";
import { lookaheadBytes, whatFollows } from "./behind-sound.ts";
import { BlockCutter } from "./block-cutter.ts";
import type { ByteReader } from "./byte-reader.ts";
import { codedDecoder, type Decode } from "./coded-sound.ts";
import { DisguisedSound } from "./disguised-sound.ts";
import { HeldTail } from "./held-tail.ts";
import { findMark, isKnownChunk, isMark, isPrintableId, isWavStart, markBytes, trailerStart } from "./wav-chunks.ts";
import { MpegDecoder } from "./mpeg-decoder.ts";
import { firstFrameWithin, firstMpegFrame } from "./mpeg-frames.ts";
import { TextChunks, type Chunk } from "./text-chunks.ts";
import { noSound, readContainer, readId3, type Container } from "./wav-container.ts";
import { framesIn, isMpeg, isSameSound, silenceByte, uint32, unsupported, type WavFormat } from "./wav-format.ts";
import { headerOf, is64, isPlaceholder, readDs64, readFormat, type WavHeader } from "./wav-header.ts";
import type { WavTags } from "./wav-tags.ts";

/** A problem of a file that did not prevent its sound from being read. */
export type WavRemark = "CUT_SHORT" | "DAMAGED" | "TRAILING_JUNK" | "SOUND_LEFT_OUT";

/** Limits of a source, known before it is read. */
export interface WavBounds {
  /** Maximum number of bytes that the source can have; undefined if unknown. */
  readonly maxBytes?: number | undefined;
  /** If the header promises more sound than this, the promise is ignored: no upload may be that long. */
  readonly maxSeconds?: number;
}

/** Maximum number of chunks. Real files have a few dozen; more would only cost time. */
const maxChunkCount = 100_000;
/**
 * Maximum number of places where the reader decides what follows the sound. Each decision takes a millisecond; real
 * files need one, or one for each joined WAV.
 */
const maxLookCount = 10_000;
/** Number of bytes held back where the sound may end early. They may turn out to be chunks. */
const heldBytes = 64 * 1024;
/** Number of bytes of sound that are kept for comparison with what follows, and held back where no end is near. */
const rememberedBytes = 16 * 1024;
/** The file ends within so many bytes of the request's end: parts of the request after the file are small. */
const nearEndBytes = 1024 * 1024;
/** Maximum duration of silence from `slnt` chunks: a few bytes of a file can request very much of it. */
const maxSilenceSeconds = 3600;
/** The largest bit rate of MPEG audio up to Layer II, 384 kbit/s (ISO/IEC 11172-3), in bytes. */
const mostMpegBytesPerSecond = 48_000;
const silencePieceBytes = 128 * 1024;

/** A part of the file that does not consist of chunks: sound, silence, or bytes that are left out. */
interface Stretch {
  /** Undefined for junk, and for sound whose format cannot be read. */
  readonly format: WavFormat | undefined;
  readonly isJunk: boolean;
  /** Its maximum size; Infinity if only the next WAV or the end of the file ends it. */
  readonly maxBytes: number;
  /** Number of bytes that its header promises; undefined if the header promises nothing. */
  readonly promisedBytes: number | undefined;
  /** Whether it continues the sound after the place where that should have ended. */
  readonly isContinued: boolean;
  /** The run of equal bytes that was skipped before it. */
  readonly leading: { readonly byte: number; readonly count: number };
}

/** Reads the chunks of a file in order: those before the sound, the sound, and those after it. */
export class ChunkReader {
  readonly tags: WavTags;
  readonly remarks = new Set<WavRemark>();
  announcedFrames: number | undefined;
  leftOutBytes = 0;
  readonly #bytes: ByteReader;
  readonly #maxBytes: number | undefined;
  readonly #maxSeconds: number;
  readonly #texts: TextChunks;
  #header: WavHeader;
  /** Format of the recording, which is that of the first WAV with sound. */
  #format: WavFormat | undefined;
  #first: Stretch | undefined;
  #cutter: BlockCutter | undefined;
  /** Decodes coded sound, from the beginning of a WAV on. */
  #decode: Decode | undefined;
  /** Decodes MPEG audio, of all WAVs in the file. */
  #mpeg: MpegDecoder | undefined;
  /** Whether the last chunk had an odd size, after which a pad byte should follow. */
  #atPad = false;
  /** The last bytes of the last stretch, for comparison with what follows. */
  #remembered: Buffer = Buffer.alloc(0);
  #stretchBytes = 0;
  /** Number of chunks since the last sound. */
  #chunkCount = 0;
  #silentSeconds = 0;
  /** How often the reader had to decide what follows the sound. */
  #lookCount = 0;
  #hasSound = false;

  constructor(bytes: ByteReader, container: Container, tags: WavTags, { maxBytes, maxSeconds }: WavBounds) {
    this.tags = tags;
    this.#bytes = bytes;
    this.#texts = new TextChunks(bytes, tags);
    this.#maxBytes = maxBytes;
    this.#maxSeconds = maxSeconds ?? Infinity;
    this.#header = headerOf(container, bytes.position - 12);
  }

  /** Reads up to the sound. */
  async open(): Promise<WavFormat> {
    if (is64(this.#header)) this.#atPad = await readDs64(this.#bytes, this.#header, false);
    this.#first = await this.#nextStretch();
    if (this.#first?.format === undefined) throw this.#noSound();
    this.#format = this.#first.format;
    return isMpeg(this.#format.codec) ? await this.#openMpeg(this.#format) : this.#format;
  }

  /** Opens the decoder of MPEG audio. Its frames state their layer, rate and channels; the header may be wrong. */
  async #openMpeg(format: WavFormat): Promise<WavFormat> {
    const frame = firstMpegFrame(await this.#bytes.peek(firstFrameWithin));
    if (frame === undefined) throw unsupported(`sound coded as MPEG audio (${format.codec}), but no frame of it`);
    this.#mpeg = await MpegDecoder.open(frame);
    const { layer, sampleRateHz, channels } = frame;
    return { ...format, codec: layer === 3 ? "mp3" : "mp2", sampleRateHz, channels };
  }

  /**
   * Yields the sound of all WAVs in the file that have the format of the first one, and reads everything else along the
   * way.
   */
  async *sound(): AsyncGenerator<Buffer, void, void> {
    const format = this.#format!;
    const disguise = new DisguisedSound(format);
    for (let stretch = this.#first; stretch !== undefined; stretch = await this.#nextStretch()) {
      if (stretch.format === undefined || !isSameSound(format, stretch.format)) {
        await this.#leaveOut(stretch);
        continue;
      }
      if (!stretch.isContinued || this.#cutter === undefined) {
        yield* this.#lastBlocks();
        this.#cutter = new BlockCutter(format);
        this.#decode = this.#mpeg ? (blocks) => this.#mpeg!.decode(blocks) : codedDecoder(format);
      }
      const { factFrames } = this.#header;
      for await (const bytes of this.#bytesOf(stretch)) {
        disguise.add(bytes);
        if (this.#decode === undefined) yield* this.#cutter.add(bytes);
        else yield* this.#decoded(this.#cutter.add(bytes), this.#decode);
      }
      this.#hasSound ||= framesIn(format, this.#cutter.bytes) > 0;
      const padding = framesIn(format, this.#cutter.bytes) - factFrames;
      if (padding <= 0 || padding >= format.framesPerBlock || this.#mpeg) continue;
      yield* this.#lastBlocks(padding);
    }
    yield* this.#lastBlocks();
    if (!this.#hasSound) throw this.#noSound();
    disguise.finish();
  }

  /** The error for a file without sound: either the file is incomplete, or it is complete and has no samples. */
  #noSound(): ServiceError {
    const { start, bytes } = this.#header;
    const isWhole = isPlaceholder(bytes) || this.#bytes.position >= start + 8 + bytes;
    if (!isWhole) return noSound();
    const message = "The WAV contains no sound: it has a header but no samples. Record it again.";
    return new ServiceError("UPLOAD_INCOMPLETE", message);
  }

  /** Yields the blocks that the previous stretch of sound held back, without so many frames of padding at their end. */
  *#lastBlocks(paddingFrames = 0): Generator<Buffer, void, void> {
    const blocks = this.#cutter?.end();
    if (blocks === undefined || blocks.length === 0) return;
    if (this.#decode === undefined) yield blocks;
    else yield this.#decodedBlocks(blocks, this.#decode, paddingFrames);
  }

  /** Decodes pieces of coded sound. Others get the event loop after each piece, because decoding takes time. */
  async *#decoded(pieces: Iterable<Buffer>, decode: Decode): AsyncGenerator<Buffer, void, void> {
    for (const blocks of pieces) {
      yield this.#decodedBlocks(blocks, decode);
      await setImmediate();
    }
  }

  #decodedBlocks(blocks: Buffer, decode: Decode, paddingFrames = 0): Buffer {
    const format = this.#format!;
    const samples = decode(blocks);
    const expected = framesIn(format, blocks.length) * format.channels;
    if (this.#mpeg ? this.#mpeg.isDamaged : samples.length < expected) this.remarks.add("DAMAGED");
    const length = Math.max(0, samples.length - paddingFrames * format.channels);
    return Buffer.from(samples.buffer, samples.byteOffset, samples.BYTES_PER_ELEMENT * length);
  }

  /** Skips a stretch that is not part of this recording. */
  async #leaveOut(stretch: Stretch): Promise<void> {
    this.leftOutBytes += stretch.leading.count;
    const rest = { ...stretch, promisedBytes: undefined, leading: nothing };
    for await (const bytes of this.#bytesOf(rest)) this.leftOutBytes += bytes.length;
    this.remarks.add(stretch.isJunk ? "TRAILING_JUNK" : "SOUND_LEFT_OUT");
  }

  /** Reads chunks up to the next stretch; undefined at the end of the file. */
  async #nextStretch(): Promise<Stretch | undefined> {
    for (;;) {
      const hasSound = this.#cutter !== undefined;
      await this.#passPad(hasSound);
      const ahead = await this.#bytes.peek(markBytes);
      if (ahead.length === 0) return undefined;
      if (isWavStart(ahead)) {
        await this.#beginWav();
        continue;
      }
      if (ahead.length < 8 || ++this.#chunkCount > maxChunkCount) {
        if (!hasSound && ahead.length >= 8) throw unsupported(`more than ${maxChunkCount} chunks before its sound`);
        return leftOut(Infinity);
      }
      if (hasSound && !isKnownChunk(ahead)) {
        const stretch = await this.#readBehindSound();
        if (stretch === undefined) continue;
        if (stretch !== "chunk") return stretch;
      }
      const header = await this.#bytes.read(8);
      const chunk = { id: header.toString("latin1", 0, 4), bytes: uint32(header, 4, this.#header.bigEndian) };
      this.#atPad = chunk.bytes % 2 === 1;
      const stretch = await this.#readChunk(chunk, hasSound);
      if (stretch !== undefined) return stretch;
    }
  }

  /** Skips a pad byte. Some programs omit it, so the bytes that follow decide whether it is there. */
  async #passPad(hasSound: boolean): Promise<void> {
    if (!this.#atPad) return;
    this.#atPad = false;
    const ahead = await this.#bytes.peek(1 + markBytes);
    const begins = (at: number): boolean => isKnownChunk(ahead, at) || isWavStart(ahead, at);
    // Sound that continues has no pad byte.
    const isPad = ahead.length <= 1 || !hasSound || (ahead[0] === 0 && isPrintableId(ahead, 1));
    if (begins(1) || (!begins(0) && isPad)) await this.#bytes.skip(1);
  }

  /** Reads one chunk and returns the stretch that it contains, if any. */
  async #readChunk(chunk: Chunk, hasSound: boolean): Promise<Stretch | undefined> {
    const { id, bytes } = chunk;
    if (id === "data") return await this.#beginData(bytes, hasSound);
    if (id === "fmt " && this.#header.format === undefined) {
      await readFormat(this.#bytes, this.#header, bytes, hasSound);
    } else if (id === "fact" && bytes >= 4 && this.#header.factFrames === 0) {
      const fact = await this.#bytes.read(4);
      if (fact.length === 4) this.#header.factFrames = uint32(fact, 0, this.#header.bigEndian);
      await this.#bytes.skip(bytes - 4);
    } else if (id === "slnt" && bytes >= 4) {
      const frames = await this.#bytes.read(4);
      await this.#bytes.skip(bytes - 4);
      if (frames.length === 4) return this.#silence(uint32(frames, 0, this.#header.bigEndian));
    } else if (id === "LIST" && (await this.#bytes.peek(4)).toString("latin1") === "wavl") {
      await this.#bytes.skip(4); // a list of sounds and silences: its chunks are read as if they were at the top level
      this.#atPad = false;
    } else if (!(await this.#texts.read(chunk, this.#header.bigEndian)) && hasSound) {
      this.remarks.add("TRAILING_JUNK");
    }
    return undefined;
  }

  /** Begins a `data` chunk. Returns undefined if it contains no sound. */
  async #beginData(statedBytes: number, hasSound: boolean): Promise<Stretch | undefined> {
    const header = this.#header;
    const { format, ds64DataBytes } = header;
    if (format === undefined && !hasSound) {
      throw new ServiceError("UNSUPPORTED_MEDIA", "The WAV does not state its format before its sound begins.");
    }
    header.ds64DataBytes = 0;
    const size = ds64DataBytes > 0 ? ds64DataBytes : statedBytes;
    const ahead = await this.#bytes.peek(markBytes);
    // The chunk may contain a whole WAV instead of samples. Then the header of that WAV counts.
    if (ahead.length === 0 || isWavStart(ahead) || (size === 0 && isKnownChunk(ahead))) {
      this.#atPad = false;
      return undefined;
    }
    this.#atPad = size % 2 === 1;
    const isPossible =
      this.#maxBytes === undefined ? !isPlaceholder(size) : this.#bytes.position + size <= this.#maxBytes;
    const isOpen = size === 0 || !isPossible;
    if (!hasSound && !isOpen && this.#maxBytes !== undefined && format !== undefined && !isMpeg(format.codec)) {
      this.announcedFrames = framesIn(format, size);
    }
    return {
      format,
      isJunk: false,
      maxBytes: isOpen ? Infinity : size,
      promisedBytes: size === 0 || isPlaceholder(size) ? undefined : size,
      isContinued: false,
      leading: nothing,
    };
  }

  /** The stretch of silence that a `slnt` chunk in a list of sounds and silences requests. */
  #silence(frames: number): Stretch | undefined {
    const { format } = this.#header;
    if (format === undefined) return undefined;
    this.#silentSeconds += frames / format.sampleRateHz;
    if (this.#silentSeconds > maxSilenceSeconds) throw unsupported(`more than ${maxSilenceSeconds} seconds of silence`);
    const count = Math.ceil(frames / format.framesPerBlock) * format.blockAlign;
    const leading = { byte: silenceByte(format), count };
    return { format, isJunk: false, maxBytes: 0, promisedBytes: undefined, isContinued: false, leading };
  }

  /**
   * Yields the bytes of a stretch. It ends early where the next WAV begins and where the file ends. Chunks that reach
   * exactly to that place are not part of it; they are read next.
   */
  async *#bytesOf({ maxBytes, promisedBytes, leading }: Stretch): AsyncGenerator<Buffer, void, void> {
    for (let left = leading.count; left > 0; left -= silencePieceBytes) {
      yield Buffer.alloc(Math.min(left, silencePieceBytes), leading.byte);
    }
    const isOpen = maxBytes === Infinity;
    const start = this.#bytes.position;
    const held = new HeldTail();
    let end: "size" | "wav" | "file" = "size";
    while (end === "size" && this.#bytes.position - start < maxBytes) {
      let taken = await this.#bytes.take(maxBytes - (this.#bytes.position - start));
      if (taken === undefined) {
        end = "file";
        break;
      }
      const at = findMark(taken, isOpen);
      if (at >= 0) {
        this.#bytes.unread(taken.subarray(at));
        taken = taken.subarray(0, at);
        if (isMark(await this.#bytes.peek(markBytes), isOpen)) end = "wav";
        else taken = Buffer.concat([taken, await this.#bytes.read(1)]);
      }
      const isNearEnd = this.#bytes.position + nearEndBytes > (this.#maxBytes ?? 0);
      for (const piece of held.add(taken, isNearEnd ? heldBytes : rememberedBytes)) yield piece;
    }
    this.#atPad &&= end === "size";
    let pieces = held.pieces;
    if (end !== "size") {
      const last = Buffer.concat(pieces);
      let soundBytes = trailerStart(last, this.#header.bigEndian);
      this.#bytes.unread(last.subarray(soundBytes));
      if (end === "wav" || soundBytes < last.length) soundBytes -= this.#padBytesIn(last.subarray(0, soundBytes));
      pieces = soundBytes > 0 ? [last.subarray(0, soundBytes)] : [];
      if (end === "file" && soundBytes === last.length) this.#noteEnd(start, promisedBytes);
    }
    this.#remember(pieces);
    this.#stretchBytes = this.#bytes.position - start;
    if (this.#stretchBytes >= 1024) this.#chunkCount = 0;
    yield* pieces;
  }

  /**
   * Whether 8-bit sound of unknown size ends with a pad byte, which would be audible as a click. With wider samples,
   * the size itself shows it.
   */
  #padBytesIn(sound: Buffer): 0 | 1 {
    const { format, start } = this.#header;
    const isEven = (this.#bytes.position - start) % 2 === 0;
    return isEven && format?.blockAlign === 1 && sound.at(-1) === 0 && (sound.at(-2) ?? 0) > 32 ? 1 : 0;
  }

  /** Adds the remark CUT_SHORT if the header credibly promises more than there is. */
  #noteEnd(start: number, promisedBytes: number | undefined): void {
    const { format, start: headerStart, bytes } = this.#header;
    if (format === undefined || promisedBytes === undefined) return;
    const got = this.#bytes.position - start;
    const frames = framesIn(format, promisedBytes);
    // Some programs include the header in the size of the sound, or state the size of the file.
    const isWhole =
      Math.abs(headerStart + 8 + bytes - this.#bytes.position) <= 8 || promisedBytes - got <= start - headerStart;
    // Of MPEG audio, the number of frames is an upper bound only; the bytes are a lower bound for the duration.
    const leastSeconds = isMpeg(format.codec) ? promisedBytes / mostMpegBytesPerSecond : frames / format.sampleRateHz;
    const isIncredible = leastSeconds > this.#maxSeconds;
    if (framesIn(format, got) >= frames || isWhole || isIncredible) return;
    this.remarks.add("CUT_SHORT");
  }

  #remember(pieces: readonly Buffer[]): void {
    const last = Buffer.concat(pieces.slice(-256));
    this.#remembered = Buffer.from(last.subarray(-rememberedBytes));
  }

  /** Examines bytes after the sound that are neither a chunk with a known name nor a WAV. */
  async #readBehindSound(): Promise<Stretch | "chunk" | undefined> {
    const { format, start, bytes } = this.#header;
    let leading = nothing;
    for (;;) {
      if (++this.#lookCount > maxLookCount) return leftOut(Infinity, leading);
      const ahead = await this.#bytes.peek(lookaheadBytes);
      const { position } = this.#bytes;
      const headerEnd = start + 8 + bytes;
      const isAll = ahead.length < lookaheadBytes;
      const isCovered = isAll
        ? headerEnd > position + 8 && Math.abs(headerEnd - position - ahead.length) <= 8
        : headerEnd >= position + ahead.length && headerEnd <= (this.#maxBytes ?? Infinity) && !isPlaceholder(bytes);
      const follower = whatFollows({
        ahead,
        isAll,
        before: this.#remembered,
        cutBytes: (this.#stretchBytes + leading.count) % (format?.blockAlign ?? 1),
        format,
        isCovered,
        maxBytes: this.#maxBytes === undefined ? Infinity : this.#maxBytes - position,
      });
      if (follower.kind === "padding") {
        leading = { byte: follower.byte, count: leading.count + (await this.#bytes.skipRun(follower.byte)) };
        continue;
      }
      if (follower.kind === "sound") {
        return { format, isJunk: false, maxBytes: Infinity, promisedBytes: undefined, isContinued: true, leading };
      }
      if (follower.kind === "junk") return leftOut(follower.bytes, leading);
      if (follower.kind === "id3") await readId3(this.#bytes, this.tags);
      if (leading.count === 0) return follower.kind === "chunk" ? "chunk" : undefined;
      this.leftOutBytes += leading.count;
      this.remarks.add("TRAILING_JUNK");
      return undefined;
    }
  }

  /** Begins the next WAV of a file that contains several. */
  async #beginWav(): Promise<void> {
    const start = this.#bytes.position;
    this.#header = headerOf(await readContainer(this.#bytes, this.tags), start);
    const hasSound = this.#cutter !== undefined;
    this.#atPad = is64(this.#header) && (await readDs64(this.#bytes, this.#header, hasSound));
  }
}

const nothing = { byte: 0, count: 0 };

function leftOut(maxBytes: number, leading = nothing): Stretch {
  return { format: undefined, isJunk: true, maxBytes, promisedBytes: undefined, isContinued: false, leading };
}
