import { ByteReader } from "./byte-reader.ts";
import { ChunkReader, type ChunkReaderState, type WavBounds, type WavRemark } from "./chunk-reader.ts";
import { readContainer } from "./wav-container.ts";
import type { WavFormat } from "./wav-format.ts";
import { isWave64, wave64AsRf64, wave64MarkBytes, type Wave64Progress } from "./wave64.ts";
import { WavTags } from "./wav-tags.ts";

export type { WavBounds };

/** What it takes to go on reading a WAV whose first bytes were read. */
export interface WavReaderState {
  readonly format: WavFormat;
  readonly chunks: ChunkReaderState;
  /** Set if it is a Sony Wave64 file. */
  readonly wave64: Wave64Progress | undefined;
}

/** A WAV whose header was read, and whose sound can be read next. */
export interface WavFile extends AsyncDisposable {
  readonly format: WavFormat;
  /** Sample frames that the header promises, if the source can contain them; undefined if unknown. */
  readonly announcedFrames: number | undefined;
  /**
   * Yields the sound in whole blocks, many in one Buffer. Coded sound is yielded as 16-bit little-endian samples, MPEG
   * audio as floats, without the padding that the `fact` chunk states. It can be iterated once and reads the source to
   * its end. Errors of the source pass through unchanged.
   *
   * @throws {ServiceError} UPLOAD_INCOMPLETE if there is no sound; UNSUPPORTED_MEDIA if it is not what the header says.
   */
  blocks(): AsyncGenerator<Buffer, void, void>;
  /** Tags found so far. They are complete when `blocks()` has ended, because they may follow the sound. */
  readonly tags: WavTags;
  /** Problems found so far. They are complete when `blocks()` has ended. */
  readonly remarks: ReadonlySet<WavRemark>;
  /**
   * What it takes to go on behind the bytes that the source has yielded. To be called when the source is asked for more;
   * undefined if it is not possible there.
   */
  save(): WavReaderState | undefined;
  /** Number of bytes after the sound that were left out. It is final when `blocks()` has ended. */
  readonly leftOutBytes: number;
}

/**
 * Reads a WAV up to its sound. RIFF and `fmt `: Microsoft and IBM, Multimedia Programming Interface 1.0, and
 * Microsoft's WAVEFORMATEXTENSIBLE; RF64 and BW64: EBU Tech 3306, ITU-R BS.2088; Sony Wave64. Wrong sizes in headers
 * are handled as players do: the sound continues to the end of the file. Consecutive WAVs form one recording if their
 * formats match. If the file is refused, its source is closed.
 *
 * @param from where to go on: the source then begins behind what was read before

 * @throws {ServiceError} UNSUPPORTED_MEDIA as soon as it is certain; UPLOAD_INCOMPLETE if there is no sound.
 */
export async function openWav(
  source: AsyncIterable<Buffer>,
  bounds: WavBounds = {},
  from?: WavReaderState,
): Promise<WavFile> {
  const { bytes, wave64 } = from ? restoredReader(source, from) : await riffReader(source);
  try {
    const tags = new WavTags();
    const file = from
      ? await ChunkReader.restore(bytes, from.chunks, bounds)
      : ChunkReader.begin(bytes, await readContainer(bytes, tags), tags, bounds);
    const format = from?.format ?? (await file.open());
    const blocks = closing(bytes, file.sound());
    return {
      format,
      announcedFrames: file.announcedFrames,
      tags: file.tags,
      remarks: file.remarks,
      get leftOutBytes() {
        return file.leftOutBytes;
      },
      save() {
        const chunks = file.save();
        return chunks && (!wave64 || wave64.sound) ? { format, chunks, wave64 } : undefined;
      },
      blocks: () => blocks,
      [Symbol.asyncDispose]: async () => await bytes.close(),
    };
  } catch (error) {
    await bytes.close();
    throw error;
  }
}

/** A reader of the source's bytes, which are rewritten if it is a Sony Wave64 file. */
async function riffReader(source: AsyncIterable<Buffer>): Promise<RiffReader> {
  const bytes = new ByteReader(source);
  const isCandidate = isWave64(await bytes.peek(4)) && isWave64(await bytes.peek(wave64MarkBytes));
  if (!isCandidate) return { bytes, wave64: undefined };
  const wave64 = {};
  return { bytes: new ByteReader(wave64AsRf64(bytes, wave64)), wave64 };
}

interface RiffReader {
  readonly bytes: ByteReader;
  readonly wave64: Wave64Progress | undefined;
}

function restoredReader(source: AsyncIterable<Buffer>, { chunks, wave64 }: WavReaderState): RiffReader {
  const riff = wave64 ? wave64AsRf64(new ByteReader(source), wave64) : source;
  return { bytes: new ByteReader(riff, chunks.position), wave64 };
}

async function* closing(bytes: ByteReader, sound: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, void> {
  try {
    yield* sound;
  } finally {
    await bytes.close();
  }
}
