import type { MPEGDecoder } from "mpg123-decoder";
import { mpegFrameAt, type MpegFrame } from "./mpeg-frames.ts";
import { unsupported } from "./wav-format.ts";

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

  /** Decodes the next bytes, in pieces of any size, to interleaved samples (full scale 1). */
  decode(bytes: Buffer): Float32Array<ArrayBuffer> {
    const frames = this.#framesIn(bytes);
    if (frames.length === 0) return new Float32Array(0);
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
