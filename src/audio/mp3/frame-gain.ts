import { FramePositions, type FrameFormat } from "./frame-positions.ts";
import { mpegVersionOf } from "./mp3-frame.ts";
import { sideInformationLayout } from "./side-information.ts";

const headerBytes = 4;
/** Sync, Layer III, and that no CRC follows the header. */
const syncBits = 0xffe3;
const syncMask = 0xffe7;

/**
 * Makes the frames of an MP3 louder or quieter without decoding them: it changes the `global_gain` of each granule and
 * channel, by steps of about 1.5 dB. The length of the frames does not change. The frames have a constant bit rate and
 * no CRC, and begin where {@link FramePositions} says.
 */
export class FrameGain {
  readonly #positions: FramePositions;
  readonly #steps: number;
  /** For each field, its first byte in the frame, and by how many bits the two bytes are shifted. */
  readonly #fields: readonly { readonly byte: number; readonly shift: number }[];

  constructor(format: FrameFormat, steps: number) {
    const { globalGains } = sideInformationLayout({
      mpegVersion: mpegVersionOf(format.sampleRateHz) ?? 1,
      channels: format.channels,
    });
    this.#positions = new FramePositions(format);
    this.#steps = steps;
    this.#fields = globalGains.map((bit) => ({ byte: headerBytes + (bit >> 3), shift: 8 - (bit & 7) }));
  }

  /**
   * Whether one of the fields lies partly before and partly after this offset, in bytes after the first frame's start.
   */
  isCutAt(offset: number): boolean {
    const start = this.#positions.startOf(this.#positions.frameAt(offset));
    return this.#fields.some(({ byte, shift }) => shift < 8 && start + byte + 1 === offset);
  }

  /**
   * Changes the fields that lie wholly in these bytes, in place. 0 is left alone, because such a granule is silent;
   * other values stay between 1 and 255.
   * @param offset where the bytes lie, after the first frame's start
   * @throws {Error} if there is no frame where one should begin
   */
  apply(bytes: Buffer, offset: number): void {
    const end = offset + bytes.length;
    const steps = this.#steps;
    for (let frame = this.#positions.frameAt(offset); ; frame++) {
      const start = this.#positions.startOf(frame);
      if (start >= end) return;
      const at = start - offset;
      if (at >= 0 && at + 2 <= bytes.length && (((bytes[at]! << 8) | bytes[at + 1]!) & syncMask) !== syncBits) {
        throw new Error(`Frame ${frame} of an MP3 does not begin where it should.`);
      }
      for (let field = 0; field < this.#fields.length; field++) {
        const { byte, shift } = this.#fields[field]!;
        const first = at + byte;
        if (first < 0 || first + 1 >= bytes.length) continue;
        const word = (bytes[first]! << 8) | bytes[first + 1]!;
        const gain = (word >> shift) & 0xff;
        if (gain === 0) continue;
        const changed = gain + steps < 1 ? 1 : gain + steps > 255 ? 255 : gain + steps;
        const next = (word & ~(0xff << shift)) | (changed << shift);
        bytes[first] = next >> 8;
        bytes[first + 1] = next & 0xff;
      }
    }
  }
}
