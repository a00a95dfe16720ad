import { framesInBlock } from "./coded-sound.ts";
import { isMpeg, type WavFormat } from "./wav-format.ts";

/** Approximate size of the pieces that are passed on, whatever the sizes of the source's pieces. */
const pieceBytes = 128 * 1024;

/** Maximum number of sample frames in a piece of coded sound. Decoding them takes about 2 ms. */
const maxCodedFrames = 4096;

/** Size of a piece of MPEG audio: a quarter of a second at 128 kbit/s, and 6 seconds at most. */
const mpegPieceBytes = 4096;

/** What a {@link BlockCutter} has got so far, and what of it is still to come. */
export interface BlockCutterState {
  readonly bytes: number;
  readonly rest: Buffer;
}

/** Cuts a stretch of sound into pieces of whole blocks. It copies only blocks that span two of the source's pieces. */
export class BlockCutter {
  readonly #format: WavFormat;
  readonly #stepBytes: number;
  #bytes: number;
  #rest: Buffer;

  constructor(format: WavFormat, { bytes, rest }: BlockCutterState = { bytes: 0, rest: Buffer.alloc(0) }) {
    this.#format = format;
    this.#bytes = bytes;
    this.#rest = rest;
    const { blockAlign, framesPerBlock } = format;
    const codedBytes = isMpeg(format.codec) ? mpegPieceBytes : (maxCodedFrames / framesPerBlock) * blockAlign;
    const wanted = framesPerBlock > 1 ? codedBytes : pieceBytes;
    this.#stepBytes = Math.max(Math.floor(wanted / blockAlign) * blockAlign, blockAlign);
  }

  /** Number of bytes added so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** What it takes to go on with another cutter. */
  save(): BlockCutterState {
    return { bytes: this.#bytes, rest: this.#rest };
  }

  /** Adds bytes and yields the whole blocks. It keeps the last block of coded sound until more bytes arrive. */
  *add(taken: Buffer): Generator<Buffer, void, void> {
    this.#bytes += taken.length;
    yield* this.#format.framesPerBlock > 1 ? this.#addCoded(taken) : this.#addPlain(taken);
  }

  /** Returns the rest: the last block of coded sound, and a truncated one after it. */
  end(): Buffer {
    const rest = this.#rest;
    this.#rest = Buffer.alloc(0);
    const cut = rest.length % this.#format.blockAlign;
    return framesInBlock(this.#format, cut) > 0 ? rest : rest.subarray(0, rest.length - cut);
  }

  *#addPlain(taken: Buffer): Generator<Buffer, void, void> {
    const { blockAlign } = this.#format;
    // Only the block that spans two pieces is copied. Copying everything after it would double the garbage.
    const completing = this.#rest.length === 0 ? 0 : Math.min(blockAlign - this.#rest.length, taken.length);
    if (completing > 0) {
      this.#rest = Buffer.concat([this.#rest, taken.subarray(0, completing)]);
      if (this.#rest.length < blockAlign) return;
      yield this.#rest;
    }
    const whole = taken.length - ((taken.length - completing) % blockAlign);
    yield* this.#inSteps(taken.subarray(completing, whole));
    this.#rest = taken.subarray(whole);
  }

  /** Keeps the last block back: how much of it is sound depends on whether it is the last one of the file. */
  *#addCoded(taken: Buffer): Generator<Buffer, void, void> {
    const { blockAlign } = this.#format;
    const joined = this.#rest.length === 0 ? taken : Buffer.concat([this.#rest, taken]);
    const ready = Math.max(0, Math.floor(joined.length / blockAlign) - 1) * blockAlign;
    yield* this.#inSteps(joined.subarray(0, ready));
    this.#rest = joined.subarray(ready);
  }

  *#inSteps(blocks: Buffer): Generator<Buffer, void, void> {
    for (let start = 0; start < blocks.length; start += this.#stepBytes) {
      yield blocks.subarray(start, start + this.#stepBytes);
    }
  }
}
