import { setImmediate } from "node:timers/promises";
import { BlockCutter, type BlockCutterState } from "./block-cutter.ts";
import { codedDecoder, type Decoder } from "./coded-sound.ts";
import { DisguisedSound, type DisguisedSoundState } from "./disguised-sound.ts";
import { MpegDecoder, type MpegDecoderState } from "./mpeg-decoder.ts";
import { framesIn, type WavFormat } from "./wav-format.ts";

/** What a {@link SoundDecoder} knows after some sound. */
export interface SoundDecoderState {
  readonly disguise: DisguisedSoundState;
  readonly cutter: BlockCutterState | undefined;
  /** What the decoder of coded sound remembers. */
  readonly coded: unknown;
  readonly mpeg: MpegDecoderState | undefined;
  readonly isDamaged: boolean;
}

/** Cuts the sound of all WAVs in a file into whole blocks, and decodes them if the sound is coded. */
export class SoundDecoder {
  /** Whether blocks of the sound could not be decoded completely. */
  isDamaged = false;
  readonly #format: WavFormat;
  readonly #disguise: DisguisedSound;
  #cutter: BlockCutter | undefined;
  /** Decodes coded sound, from the beginning of a WAV on. */
  #coded: Decoder | undefined;
  /** Decodes MPEG audio, of all WAVs in the file. */
  readonly #mpeg: MpegDecoder | undefined;

  constructor(format: WavFormat, mpeg?: MpegDecoder) {
    this.#format = format;
    this.#disguise = new DisguisedSound(format);
    this.#mpeg = mpeg;
  }

  /** Creates one that goes on where another one of the same sound was saved. */
  static async restore(format: WavFormat, state: SoundDecoderState, software?: string): Promise<SoundDecoder> {
    const decoder = new SoundDecoder(format, state.mpeg && (await MpegDecoder.restore(state.mpeg)));
    decoder.#disguise.restore(state.disguise);
    decoder.isDamaged = state.isDamaged;
    if (state.cutter) {
      decoder.#cutter = new BlockCutter(format, state.cutter);
      decoder.#coded = codedDecoder(format, software);
      decoder.#coded?.restore(state.coded);
    }
    return decoder;
  }

  /** What it takes to go on with another one; undefined at the beginning of the sound. */
  save(): SoundDecoderState | undefined {
    const disguise = this.#disguise.save();
    if (disguise === undefined) return undefined;
    return {
      disguise,
      cutter: this.#cutter?.save(),
      coded: this.#coded?.save(),
      mpeg: this.#mpeg?.save(),
      isDamaged: this.isDamaged,
    };
  }

  /** Whether the sound of a WAV has begun. */
  get hasBegun(): boolean {
    return this.#cutter !== undefined;
  }

  /** Number of frames in the sound of the current WAV. */
  get frames(): number {
    return framesIn(this.#format, this.#cutter?.bytes ?? 0);
  }

  /** Begins the sound of a WAV, of which `software` is what it names as its writer. */
  begin(software?: string): void {
    this.#cutter = new BlockCutter(this.#format);
    this.#coded = codedDecoder(this.#format, software);
  }

  /**
   * Yields samples of the next bytes of the sound. While it decodes, others get the event loop after each piece.
   * @throws {ServiceError} UNSUPPORTED_MEDIA as soon as it is certain that the bytes are no sound
   */
  async *add(bytes: Buffer): AsyncGenerator<Buffer, void, void> {
    this.#disguise.add(bytes);
    const pieces = this.#cutter!.add(bytes);
    const decoder = this.#decoder;
    if (decoder === undefined) yield* pieces;
    else {
      for (const blocks of pieces) {
        yield this.#decoded(blocks, decoder);
        await setImmediate();
      }
    }
  }

  /** Yields the blocks that were held back, without so many frames of padding at their end, if they are coded. */
  *end(paddingFrames = 0): Generator<Buffer, void, void> {
    const blocks = this.#cutter?.end();
    if (blocks === undefined || blocks.length === 0) return;
    const decoder = this.#decoder;
    yield decoder === undefined ? blocks : this.#decoded(blocks, decoder, paddingFrames);
  }

  /**
   * Ends the sound of the file.
   * @throws {ServiceError} UNSUPPORTED_MEDIA if it was no sound
   */
  finish(): void {
    this.#disguise.finish();
  }

  get #decoder(): Pick<Decoder, "decode"> | undefined {
    return this.#mpeg ?? this.#coded;
  }

  #decoded(blocks: Buffer, decoder: Pick<Decoder, "decode">, paddingFrames = 0): Buffer {
    const { channels } = this.#format;
    const samples = decoder.decode(blocks);
    const expected = framesIn(this.#format, blocks.length) * channels;
    if (this.#mpeg ? this.#mpeg.isDamaged : samples.length < expected) this.isDamaged = true;
    const length = Math.max(0, samples.length - paddingFrames * channels);
    return Buffer.from(samples.buffer, samples.byteOffset, samples.BYTES_PER_ELEMENT * length);
  }
}
