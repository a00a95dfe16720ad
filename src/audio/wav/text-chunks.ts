import type { ByteReader } from "./byte-reader.ts";
import { maxCueBytes, maxLabelBytes } from "./cue-points.ts";
import { maxIxmlBytes } from "./ixml.ts";
import { isKnownChunk } from "./wav-chunks.ts";
import { maxTagChunkBytes } from "./wav-container.ts";
import { uint32 } from "./wav-format.ts";
import { isKnownInfo, maxTagBytes, type WavTags } from "./wav-tags.ts";

/** Maximum number of entries that are read, in all lists together. There are a few dozen ids. */
const maxEntryCount = 1000;

/** The first eight bytes of a chunk. */
export interface Chunk {
  readonly id: string;
  /** Its size, as stated. */
  readonly bytes: number;
}

/**
 * Reads the chunks that are neither sound nor its format. Some contain tags, in several ways; the others are skipped.
 */
export class TextChunks {
  readonly #bytes: ByteReader;
  readonly #tags: WavTags;
  /** Entries of lists so far. */
  #count: number;

  /** `count` is the number of entries that were read before. */
  constructor(bytes: ByteReader, tags: WavTags, count = 0) {
    this.#bytes = bytes;
    this.#tags = tags;
    this.#count = count;
  }

  /** Number of entries of lists so far. */
  get count(): number {
    return this.#count;
  }

  /** Reads a chunk that is not sound. Returns false if its name is unknown and the file ends inside it. */
  async read({ id, bytes }: Chunk, bigEndian: boolean): Promise<boolean> {
    let left = bytes;
    if (id === "LIST" && bytes >= 4) {
      left -= 4;
      const form = (await this.#bytes.read(4)).toString("latin1");
      if (form === "INFO" || form === "adtl") left = await this.#readList(form, left, bigEndian);
    } else if (id === "cue ") {
      const chunk = await this.#bytes.read(Math.min(bytes, maxCueBytes));
      left -= chunk.length;
      this.#tags.cues.addCues(chunk, bigEndian);
    } else if (id === "iXML") {
      const chunk = await this.#bytes.read(Math.min(bytes, maxIxmlBytes));
      left -= chunk.length;
      this.#tags.production.addIxml(chunk);
    } else if (id === "bext" || id === "CSET" || id.toLowerCase() === "id3 ") {
      const chunk = await this.#bytes.read(Math.min(bytes, maxTagChunkBytes));
      left -= chunk.length;
      if (id === "bext") this.#tags.addBext(chunk);
      else if (id === "CSET") this.#tags.addCharacterSet(chunk, bigEndian);
      else this.#tags.addId3(chunk);
    }
    return (await this.#bytes.skip(left)) === left || isKnownChunk(Buffer.from(id, "latin1"));
  }

  /** Reads the sub-chunks of a LIST of texts or labels and returns how many of its bytes are left. */
  async #readList(form: "INFO" | "adtl", bytes: number, bigEndian: boolean): Promise<number> {
    let left = bytes;
    for (; left >= 8 && this.#count < maxEntryCount; this.#count++) {
      const header = await this.#bytes.read(8);
      left -= header.length;
      if (header.length < 8) break;
      const id = header.toString("latin1", 0, 4);
      const size = Math.min(uint32(header, 4, bigEndian), left);
      const wanted = form === "INFO" ? (isKnownInfo(id) ? maxTagBytes : 0) : id === "labl" ? maxLabelBytes : 0;
      const value = await this.#bytes.read(Math.min(size, wanted));
      if (form === "INFO") this.#tags.addInfo(id, value);
      else this.#tags.cues.addLabel(value, bigEndian);
      await this.#bytes.skip(size - value.length);
      left -= size;
      // Some programs omit pad bytes here, too: then the next letter begins an id.
      const isPadded = size % 2 === 1 && !/^[a-z]/iu.test((await this.#bytes.peek(1)).toString("latin1"));
      if (isPadded && left > 0) left -= await this.#bytes.skip(1);
    }
    return left;
  }
}
