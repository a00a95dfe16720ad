import { setImmediate } from "node:timers/promises";
import { ServiceError } from "../../errors/errors.ts";
import { lookaheadBytes, whatFollows } from "./behind-sound.ts";
import type { ByteReader } from "./byte-reader.ts";
import { isKnownChunk, isPrintableId, isWavStart, markBytes } from "./wav-chunks.ts";
import { MpegDecoder } from "./mpeg-decoder.ts";
import { firstFrameWithin, firstMpegFrame } from "./mpeg-frames.ts";
import { SoundDecoder, type SoundDecoderState } from "./sound-decoder.ts";
import { StretchReader, type SavedPlace, type Stretch } from "./stretch-reader.ts";
import { TextChunks, type Chunk } from "./text-chunks.ts";
import { noSound, readContainer, readId3, type Container } from "./wav-container.ts";
import { framesIn, isMpeg, isSameSound, silenceByte, uint32, unsupported, type WavFormat } from "./wav-format.ts";
import { headerOf, is64, isPlaceholder, readDs64, readFormat, type WavHeader } from "./wav-header.ts";
import { WavTags, type WavTagsState } from "./wav-tags.ts";

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
const maxChunkCount = 10_000;
/**
 * Maximum number of places where the reader decides what follows the sound. Each decision takes a millisecond; real
 * files need one, or one for each joined WAV.
 */
const maxLookCount = 10_000;
/** Maximum duration of silence from `slnt` chunks: a few bytes of a file can request very much of it. */
const maxSilenceSeconds = 3600;
/** Maximum size of that silence, in bytes: an hour of 24-bit stereo at 48 kHz. More channels take longer to mix. */
const maxSilenceBytes = 2 ** 30;
/** How long the reader works before others get the event loop, in milliseconds. */
const pauseAfterMs = 5;
/** The largest bit rate of MPEG audio up to Layer II, 384 kbit/s (ISO/IEC 11172-3), in bytes. */
const mostMpegBytesPerSecond = 48_000;

/** What a {@link ChunkReader} knows at a place inside a stretch. */
export interface ChunkReaderState {
  readonly position: number;
  readonly place: SavedPlace;
  readonly tags: WavTagsState;
  readonly entryCount: number;
  readonly header: WavHeader;
  readonly format: WavFormat;
  readonly sound: SoundDecoderState;
  readonly remarks: ReadonlySet<WavRemark>;
  readonly announcedFrames: number | undefined;
  readonly leftOutBytes: number;
  readonly atPad: boolean;
  readonly remembered: Buffer;
  readonly stretchBytes: number;
  readonly chunkCount: number;
  readonly silentSeconds: number;
  readonly silentBytes: number;
  readonly lookCount: number;
  readonly hasSound: boolean;
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
  readonly #stretches: StretchReader;
  #header: WavHeader;
  /** Format of the recording, which is that of the first WAV with sound. */
  #format: WavFormat | undefined;
  #first: Stretch | undefined;
  #decoder: SoundDecoder | undefined;
  /** Whether the last chunk had an odd size, after which a pad byte should follow. */
  #atPad = false;
  /** Number of chunks since the last sound. */
  #chunkCount = 0;
  #silentSeconds = 0;
  #silentBytes = 0;
  #pausedAt = performance.now();
  /** How often the reader had to decide what follows the sound. */
  #lookCount = 0;
  #hasSound = false;

  private constructor(bytes: ByteReader, tags: WavTags, header: WavHeader, bounds: WavBounds, entryCount = 0) {
    this.tags = tags;
    this.#bytes = bytes;
    this.#texts = new TextChunks(bytes, tags, entryCount);
    this.#stretches = new StretchReader(bytes, bounds.maxBytes, async () => await this.#pause());
    this.#maxBytes = bounds.maxBytes;
    this.#maxSeconds = bounds.maxSeconds ?? Infinity;
    this.#header = header;
  }

  /** Creates a reader of a file whose first 12 bytes were just read. */
  static begin(bytes: ByteReader, container: Container, tags: WavTags, bounds: WavBounds): ChunkReader {
    return new ChunkReader(bytes, tags, headerOf(container, bytes.position - 12), bounds);
  }

  /** Creates a reader that goes on where another one was saved. */
  static async restore(bytes: ByteReader, state: ChunkReaderState, bounds: WavBounds): Promise<ChunkReader> {
    const format = { ...state.format };
    const tags = new WavTags();
    tags.restore(state.tags);
    const reader = new ChunkReader(bytes, tags, state.header, bounds, state.entryCount);
    reader.#stretches.restore(state.place, state.remembered, state.stretchBytes);
    reader.#format = format;
    reader.#decoder = await SoundDecoder.restore(format, state.sound, tags.get("software"));
    for (const remark of state.remarks) reader.remarks.add(remark);
    reader.announcedFrames = state.announcedFrames;
    reader.leftOutBytes = state.leftOutBytes;
    reader.#atPad = state.atPad;
    reader.#chunkCount = state.chunkCount;
    reader.#silentSeconds = state.silentSeconds;
    reader.#silentBytes = state.silentBytes;
    reader.#lookCount = state.lookCount;
    reader.#hasSound = state.hasSound;
    return reader;
  }

  /** What it takes to go on with another reader; undefined where that is not possible: outside of stretches, and at the
   * beginning of the sound. It may be called while the reader waits for the source. */
  save(): ChunkReaderState | undefined {
    const [place, sound] = [this.#stretches.save(), this.#decoder?.save()];
    if (place === undefined || sound === undefined) return undefined;
    return {
      position: this.#bytes.position,
      place,
      tags: this.tags.save(),
      entryCount: this.#texts.count,
      header: this.#header,
      format: this.#format!,
      sound,
      remarks: this.remarks,
      announcedFrames: this.announcedFrames,
      leftOutBytes: this.leftOutBytes,
      atPad: this.#atPad,
      remembered: this.#stretches.remembered,
      stretchBytes: this.#stretches.lastBytes,
      chunkCount: this.#chunkCount,
      silentSeconds: this.#silentSeconds,
      silentBytes: this.#silentBytes,
      lookCount: this.#lookCount,
      hasSound: this.#hasSound,
    };
  }

  /** Reads up to the sound. */
  async open(): Promise<WavFormat> {
    if (is64(this.#header)) this.#atPad = await readDs64(this.#bytes, this.#header, false);
    this.#first = await this.#nextStretch();
    if (this.#first?.format === undefined) throw this.#noSound();
    this.#format = this.#first.format;
    if (isMpeg(this.#format.codec)) return await this.#openMpeg(this.#format);
    this.#decoder = new SoundDecoder(this.#format);
    return this.#format;
  }

  /** Opens the decoder of MPEG audio. Its frames state their layer, rate and channels; the header may be wrong. */
  async #openMpeg(format: WavFormat): Promise<WavFormat> {
    const frame = firstMpegFrame(await this.#bytes.peek(firstFrameWithin));
    if (frame === undefined) throw unsupported(`sound coded as MPEG audio (${format.codec}), but no frame of it`);
    this.#decoder = new SoundDecoder(format, await MpegDecoder.open(frame));
    const { layer, sampleRateHz, channels } = frame;
    return { ...format, codec: layer === 3 ? "mp3" : "mp2", sampleRateHz, channels };
  }

  /**
   * Yields the sound of all WAVs in the file that have the format of the first one, and reads everything else along the
   * way.
   */
  async *sound(): AsyncGenerator<Buffer, void, void> {
    const [format, decoder] = [this.#format!, this.#decoder!];
    let stretch = this.#stretches.restored ?? this.#first;
    for (; stretch !== undefined; stretch = await this.#nextStretch()) {
      if (stretch.format === undefined || !isSameSound(format, stretch.format)) {
        await this.#leaveOut(stretch);
        continue;
      }
      if (!this.#stretches.restored && (!stretch.isContinued || !decoder.hasBegun)) {
        yield* decoder.end();
        decoder.begin(this.tags.get("software"));
      }
      const { factFrames } = this.#header;
      for await (const bytes of this.#bytesOf(stretch)) yield* decoder.add(bytes);
      this.#hasSound ||= decoder.frames > 0;
      const padding = decoder.frames - factFrames;
      if (padding > 0 && padding < format.framesPerBlock && !isMpeg(format.codec)) yield* decoder.end(padding);
    }
    yield* decoder.end();
    if (!this.#hasSound) throw this.#noSound();
    decoder.finish();
    if (decoder.isDamaged) this.remarks.add("DAMAGED");
  }

  /** Gives others the event loop, if they had to wait. A small file can contain very much of what is not sound. */
  async #pause(): Promise<void> {
    if (performance.now() - this.#pausedAt < pauseAfterMs) return;
    await setImmediate();
    this.#pausedAt = performance.now();
  }

  get #soundHasBegun(): boolean {
    return this.#decoder?.hasBegun ?? false;
  }

  /** The error for a file without sound: either the file is incomplete, or it is complete and has no samples. */
  #noSound(): ServiceError {
    const { start, bytes } = this.#header;
    const isWhole = isPlaceholder(bytes) || this.#bytes.position >= start + 8 + bytes;
    if (!isWhole) return noSound();
    const message = "The WAV contains no sound: it has a header but no samples. Record it again.";
    return new ServiceError("UPLOAD_INCOMPLETE", message);
  }

  /** Skips a stretch that is not part of this recording. */
  async #leaveOut(stretch: Stretch): Promise<void> {
    if (!this.#stretches.restored) this.leftOutBytes += stretch.leading.count;
    const rest = { ...stretch, promisedBytes: undefined, leading: nothing };
    for await (const bytes of this.#bytesOf(rest)) this.leftOutBytes += bytes.length;
    this.remarks.add(stretch.isJunk ? "TRAILING_JUNK" : "SOUND_LEFT_OUT");
  }

  /** Reads chunks up to the next stretch; undefined at the end of the file. */
  async #nextStretch(): Promise<Stretch | undefined> {
    for (;;) {
      await this.#pause();
      const hasSound = this.#soundHasBegun;
      await this.#passPad(hasSound);
      const ahead = await this.#bytes.peek(markBytes);
      if (ahead.length === 0) return undefined;
      if (isWavStart(ahead)) {
        await this.#beginWav();
        continue;
      }
      if (ahead.length < 8 || ++this.#chunkCount > maxChunkCount) {
        if (!hasSound && ahead.length >= 8) throw unsupported(`more than ${maxChunkCount} chunks before its sound`);
        // The chunks that reach the end of the file are read after all; they would be left out again and again.
        this.#chunkCount = 0;
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
    this.#silentBytes += count;
    if (this.#silentBytes > maxSilenceBytes) throw unsupported(`more than ${maxSilenceBytes} bytes of silence`);
    const leading = { byte: silenceByte(format), count };
    return { format, isJunk: false, maxBytes: 0, promisedBytes: undefined, isContinued: false, leading };
  }

  /** Yields the bytes of a stretch, and notes how it has ended. */
  async *#bytesOf(stretch: Stretch): AsyncGenerator<Buffer, void, void> {
    const end = yield* this.#stretches.bytesOf(stretch, this.#header);
    this.#atPad &&= end === "size";
    if (this.#stretches.lastBytes >= 1024) this.#chunkCount = 0;
    if (end === "file") this.#noteEnd(stretch.promisedBytes);
  }

  /** Adds the remark CUT_SHORT if the header credibly promises more than there is. */
  #noteEnd(promisedBytes: number | undefined): void {
    const { format, start: headerStart, bytes } = this.#header;
    if (format === undefined || promisedBytes === undefined) return;
    const got = this.#stretches.lastBytes;
    const start = this.#bytes.position - got;
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

  /** Examines bytes after the sound that are neither a chunk with a known name nor a WAV. */
  async #readBehindSound(): Promise<Stretch | "chunk" | undefined> {
    const { format, start, bytes } = this.#header;
    let leading = nothing;
    for (;;) {
      await this.#pause();
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
        before: this.#stretches.remembered,
        cutBytes: (this.#stretches.lastBytes + leading.count) % (format?.blockAlign ?? 1),
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
    const hasSound = this.#soundHasBegun;
    this.#atPad = is64(this.#header) && (await readDs64(this.#bytes, this.#header, hasSound));
  }
}

const nothing = { byte: 0, count: 0 };

function leftOut(maxBytes: number, leading = nothing): Stretch {
  return { format: undefined, isJunk: true, maxBytes, promisedBytes: undefined, isContinued: false, leading };
}
