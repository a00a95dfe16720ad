import { trailerStart, findMark, isMark, markBytes } from "./wav-chunks.ts";
import type { ByteReader } from "./byte-reader.ts";
import { HeldTail } from "./held-tail.ts";
import type { WavFormat } from "./wav-format.ts";
import type { WavHeader } from "./wav-header.ts";

/** Number of bytes held back where the sound may end early. They may turn out to be chunks. */
const heldBytes = 64 * 1024;
/** Number of bytes of sound that are kept for comparison with what follows, and held back where no end is near. */
const rememberedBytes = 16 * 1024;
/** The file ends at most this far before the request does: what follows it in the request is small. */
const nearEndBytes = 1024 * 1024;
const silencePieceBytes = 128 * 1024;

/** A part of the file that does not consist of chunks: sound, silence, or bytes that are left out. */
export interface Stretch {
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

/** A place inside a stretch. */
interface Place {
  readonly stretch: Stretch;
  /** Position of the stretch in the file. */
  readonly start: number;
  readonly held: HeldTail;
}

/** A place inside a stretch, as it is saved. */
export type SavedPlace = Omit<Place, "held"> & { readonly held: Buffer };

/** What ended a stretch: its size, the next WAV, chunks that reach to the end of the file, or that end itself. */
export type StretchEnd = "size" | "wav" | "chunks" | "file";

/** Reads the bytes of one stretch after another, and finds where each of them ends. */
export class StretchReader {
  readonly #bytes: ByteReader;
  readonly #maxBytes: number | undefined;
  readonly #pause: () => Promise<void>;
  #remembered: Buffer = Buffer.alloc(0);
  #lastBytes = 0;
  /** Where the reader is while it waits for the source's next bytes. */
  #waitingAt: Place | undefined;
  #restoredAt: Place | undefined;

  /** @param pause gives others the event loop, if they had to wait */
  constructor(bytes: ByteReader, maxBytes: number | undefined, pause: () => Promise<void>) {
    this.#bytes = bytes;
    this.#maxBytes = maxBytes;
    this.#pause = pause;
  }

  /** The last bytes of the last stretch, for comparison with what follows. */
  get remembered(): Buffer {
    return this.#remembered;
  }

  /** Size of the last stretch, in bytes. */
  get lastBytes(): number {
    return this.#lastBytes;
  }

  /** The stretch that {@link bytesOf} goes on with, if the reader was restored. */
  get restored(): Stretch | undefined {
    return this.#restoredAt?.stretch;
  }

  /** The place where the reader waits for the source; undefined if it does not. */
  save(): SavedPlace | undefined {
    return this.#waitingAt && { ...this.#waitingAt, held: Buffer.concat(this.#waitingAt.held.pieces) };
  }

  /** Goes on at a place that was saved. */
  restore(place: SavedPlace, remembered: Buffer, lastBytes: number): void {
    this.#restoredAt = { ...place, held: new HeldTail(place.held) };
    this.#remembered = remembered;
    this.#lastBytes = lastBytes;
  }

  /**
   * Yields the bytes of a stretch. It ends early where the next WAV begins and where the file ends. Chunks that reach
   * exactly to that place are not part of it; they are read next.
   * @param header the header of the WAV to which the stretch belongs
   */
  async *bytesOf(stretch: Stretch, header: WavHeader): AsyncGenerator<Buffer, StretchEnd, void> {
    const { maxBytes, leading } = stretch;
    const place = this.#restoredAt ?? { stretch, start: this.#bytes.position, held: new HeldTail() };
    for (let left = this.#restoredAt ? 0 : leading.count; left > 0; left -= silencePieceBytes) {
      await this.#pause();
      yield Buffer.alloc(Math.min(left, silencePieceBytes), leading.byte);
    }
    this.#restoredAt = undefined;
    const isOpen = maxBytes === Infinity;
    const { start, held } = place;
    let end: StretchEnd = "size";
    while (end === "size" && this.#bytes.position - start < maxBytes) {
      this.#waitingAt = place;
      let taken = await this.#bytes.take(maxBytes - (this.#bytes.position - start));
      this.#waitingAt = undefined;
      if (taken === undefined) {
        end = "file";
        break;
      }
      const at = findMark(taken, isOpen);
      if (at >= 0) {
        await this.#pause();
        this.#bytes.unread(taken.subarray(at));
        taken = taken.subarray(0, at);
        if (isMark(await this.#bytes.peek(markBytes), isOpen)) end = "wav";
        else taken = Buffer.concat([taken, await this.#bytes.read(1)]);
      }
      const isNearEnd = this.#bytes.position + nearEndBytes > (this.#maxBytes ?? 0);
      for (const piece of held.add(taken, isNearEnd ? heldBytes : rememberedBytes)) yield piece;
    }
    let pieces = held.pieces;
    if (end !== "size") {
      const last = Buffer.concat(pieces);
      let soundBytes = trailerStart(last, header.bigEndian);
      this.#bytes.unread(last.subarray(soundBytes));
      if (end === "file" && soundBytes < last.length) end = "chunks";
      if (end !== "file") soundBytes -= padBytesIn(last.subarray(0, soundBytes), header, this.#bytes.position);
      pieces = soundBytes > 0 ? [last.subarray(0, soundBytes)] : [];
    }
    this.#remembered = Buffer.from(Buffer.concat(pieces.slice(-256)).subarray(-rememberedBytes));
    this.#lastBytes = this.#bytes.position - start;
    yield* pieces;
    return end;
  }
}

/**
 * Whether 8-bit sound of unknown size ends with a pad byte, which would be audible as a click. With wider samples, the
 * size itself shows it.
 * @param position where the sound ends in the file
 */
function padBytesIn(sound: Buffer, { format, start }: WavHeader, position: number): 0 | 1 {
  const isEven = (position - start) % 2 === 0;
  return isEven && format?.blockAlign === 1 && sound.at(-1) === 0 && (sound.at(-2) ?? 0) > 32 ? 1 : 0;
}
