import type { MPEGDecoder } from "mpg123-decoder";
import { mpegFrameAt, type MpegFrame } from "./mpeg-frames.ts";
import { unsupported } from "./wav-format.ts";

/**
 * Bytes of whole frames that bring a new decoder to where another one was: the main data of a frame lies in at most 511
 * bytes before it, and the filters remember less than two frames. Frames of free format do not count, so no frame is longer
 * than 1730 bytes.
 */
const leastRecentBytes = 8192;

/**
 * The filter of the decoder turns by 18 or 36 steps with each frame, and is back in its place after 16. Only from such a
 * place does it round like the first decoder. (In Layer III, first frames without all of their main data may not turn it: then
 * samples differ by 1e-7.)
 */
const framesPerTurn = 8;

/** What a {@link MpegDecoder} remembers. */
export interface MpegDecoderState {
  readonly stream: MpegFrame;
  readonly isDamaged: boolean;
  readonly rest: Buffer;
  readonly isInStep: boolean;
  readonly hasFrames: boolean;
  /** The last frames, to be decoded once more. The first of them begins a turn of the decoder's filter. */
  readonly recent: Buffer;
}

/**
 * Decodes MPEG audio of Layer II and III by libmpg123, which runs as WebAssembly: it sees no memory but its own, and has
 * no access to files or the network. It gets whole frames of one stream only. (mpg123-decoder 1.0.3 would read on for
 * ever after an error that libmpg123 does not recover from; no bits inside of whole frames cause one.)
 */
export class MpegDecoder {
  /** Whether bytes between frames were left out. */
  isDamaged = false;
  readonly #decoder: MPEGDecoder;
  readonly #stream: MpegFrame;
  #rest: Buffer = Buffer.alloc(0);
  /** Whether a frame must begin at the next byte. */
  #isInStep = true;
  #hasFrames = false;
  /** The frames that were decoded last. */
  #recent: Buffer = Buffer.alloc(0);

  private constructor(decoder: MPEGDecoder, stream: MpegFrame) {
    this.#decoder = decoder;
    this.#stream = stream;
  }

  /** Creates a decoder for the stream to which this frame belongs. */
  static async open(stream: MpegFrame): Promise<MpegDecoder> {
    const { MPEGDecoder: Decoder } = await import("mpg123-decoder"); // not at the start: few files need it
    const decoder = new Decoder();
    await decoder.ready;
    return new MpegDecoder(decoder, stream);
  }

  /** Creates a decoder that goes on where another one was saved. */
  static async restore(state: MpegDecoderState): Promise<MpegDecoder> {
    const decoder = await MpegDecoder.open(state.stream);
    if (state.recent.length > 0) decoder.#decodeFrames(state.recent);
    decoder.#recent = state.recent;
    decoder.#rest = state.rest;
    decoder.#isInStep = state.isInStep;
    decoder.#hasFrames = state.hasFrames;
    decoder.isDamaged = state.isDamaged;
    return decoder;
  }

  /** What it takes to go on with another decoder. */
  save(): MpegDecoderState {
    return {
      stream: this.#stream,
      isDamaged: this.isDamaged,
      rest: this.#rest,
      isInStep: this.#isInStep,
      hasFrames: this.#hasFrames,
      recent: this.#recent,
    };
  }

  /** Decodes the next bytes, in pieces of any size, to interleaved samples (full scale 1). */
  decode(bytes: Buffer): Float32Array<ArrayBuffer> {
    const frames = this.#framesIn(bytes);
    if (frames.length === 0) return new Float32Array(0);
    this.#recent = lastFrames(Buffer.concat([this.#recent, frames]));
    const { channels } = this.#stream;
    const { channelData, samplesDecoded, errors } = this.#decodeFrames(frames);
    this.isDamaged ||= errors.length > 0;
    const samples = new Float32Array(samplesDecoded * channels);
    for (let channel = 0; channel < channels; channel++) {
      const decoded = channelData[channel]!;
      for (let i = 0; i < samplesDecoded; i++) samples[i * channels + channel] = decoded[i]!;
    }
    return samples;
  }

  #decodeFrames(frames: Buffer): ReturnType<MPEGDecoder["decode"]> {
    try {
      return this.#decoder.decode(frames);
    } catch (cause) {
      throw Object.assign(unsupported("MPEG audio that is damaged"), { cause });
    }
  }

  /** The whole frames in what was kept and these bytes. Keeps the beginning of the next one. */
  #framesIn(bytes: Buffer): Buffer {
    const all = Buffer.concat([this.#rest, bytes]);
    const found: Buffer[] = [];
    let at = 0;
    while (at + 4 <= all.length) {
      const frame = mpegFrameAt(all, at);
      const end = at + (frame?.bytes ?? 0);
      if (frame?.kind === this.#stream.kind) {
        if (end > all.length || (!this.#isInStep && end + 4 > all.length)) break;
        if (this.#isInStep || mpegFrameAt(all, end)?.kind === frame.kind) {
          this.isDamaged ||= !this.#isInStep && this.#hasFrames;
          this.#isInStep = true;
          this.#hasFrames = true;
          found.push(all.subarray(at, end));
          at = end;
          continue;
        }
      }
      this.#isInStep = false;
      const next = all.indexOf(0xff, at + 1);
      at = next < 0 ? all.length : next;
    }
    this.#rest = all.subarray(at);
    return Buffer.concat(found);
  }
}

/** The last whole frames, from the beginning of a turn on, with at least {@link leastRecentBytes} if there are so many. */
function lastFrames(frames: Buffer): Buffer {
  let start = 0;
  let number = 0;
  for (let at = 0; frames.length - at >= leastRecentBytes; at += mpegFrameAt(frames, at)!.bytes, number++) {
    if (number % framesPerTurn === 0) start = at;
  }
  return start === 0 ? frames : Buffer.from(frames.subarray(start));
}
