import { ByteReader } from "./byte-reader.ts";
import { ChunkReader, type WavBounds, type WavRemark } from "./chunk-reader.ts";
import { readContainer } from "./wav-container.ts";
import type { WavFormat } from "./wav-format.ts";
import { WavTags } from "./wav-tags.ts";

export type { WavBounds };

/** A WAV whose header was read, and whose sound waits to be. */
export interface WavFile extends AsyncDisposable {
  readonly format: WavFormat;
  /** Sample frames that the header promises and that the source can hold; undefined when that is not known. */
  readonly announcedFrames: number | undefined;
  /**
   * The sound in whole blocks, many in one Buffer; a last ADPCM block may be cut short. It can be iterated once, and
   * reads the source to its end. Failures of the source pass through unchanged.
   *
   * @throws {ServiceError} UPLOAD_INCOMPLETE if there is no sound; UNSUPPORTED_MEDIA if it is not what its label says.
   */
  blocks(): AsyncGenerator<Buffer, void, void>;
  /** Frames at the end of the Buffer that was handed out last which are no sound: a `fact` chunk says so of ADPCM. */
  readonly paddingFrames: number;
  /** Tags found so far: complete once `blocks()` has ended, as they may stand behind the sound. */
  readonly tags: WavTags;
  /** What was odd: complete once `blocks()` has ended. */
  readonly remarks: ReadonlySet<WavRemark>;
  /** Bytes behind the sound that remarks are about; complete once `blocks()` has ended. */
  readonly leftOutBytes: number;
}

/**
 * Reads a WAV up to its sound. RIFF and `fmt `: Microsoft and IBM, Multimedia Programming Interface 1.0, and
 * Microsoft's WAVEFORMATEXTENSIBLE; RF64 and BW64: EBU Tech 3306, ITU-R BS.2088. Headers that are wrong about sizes are
 * read as players read them: the sound goes on to the end of the file. WAVs that stand one behind the other are one
 * recording, as far as their formats agree. A file that is refused is closed.
 *
 * @throws {ServiceError} UNSUPPORTED_MEDIA at the first byte that shows it; UPLOAD_INCOMPLETE if there is no sound.
 */
export async function openWav(source: AsyncIterable<Buffer>, bounds: WavBounds = {}): Promise<WavFile> {
  const bytes = new ByteReader(source);
  try {
    const tags = new WavTags();
    const file = new ChunkReader(bytes, await readContainer(bytes, tags), tags, bounds);
    const format = await file.open();
    const blocks = closing(bytes, file.sound());
    return {
      format,
      announcedFrames: file.announcedFrames,
      get paddingFrames() {
        return file.paddingFrames;
      },
      tags: file.tags,
      remarks: file.remarks,
      get leftOutBytes() {
        return file.leftOutBytes;
      },
      blocks: () => blocks,
      [Symbol.asyncDispose]: async () => await bytes.close(),
    };
  } catch (error) {
    await bytes.close();
    throw error;
  }
}

async function* closing(bytes: ByteReader, sound: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, void> {
  try {
    yield* sound;
  } finally {
    await bytes.close();
  }
}
