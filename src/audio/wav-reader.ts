import { ServiceError } from "../errors.ts";
import { ByteReader } from "./byte-reader.ts";
import {
  framesIn,
  framesInBlock,
  isBigEndian,
  parseFormat,
  uint32,
  unsupported,
  type WavFormat,
} from "./wav-format.ts";
import { id3TagBytes, isKnownInfo, maxTagBytes, WavTags } from "./wav-tags.ts";

/** Something odd about a file whose sound could be read all the same. */
export type WavRemark = "CUT_SHORT" | "TRAILING_JUNK";

/** A WAV whose header was read, and whose sound waits to be. */
export interface WavFile extends AsyncDisposable {
  readonly format: WavFormat;
  /** Sample frames the header promises; undefined when it leaves the size open, or states another one for the file. */
  readonly announcedFrames: number | undefined;
  /**
   * The sound in whole blocks, many in one Buffer; a last ADPCM block may be cut short. It can be iterated once, and
   * reads the source to its end. Failures of the source pass through unchanged.
   */
  blocks(): AsyncGenerator<Buffer, void, void>;
  /** Tags found so far: complete once `blocks()` has ended, as they may stand behind the sound. */
  readonly tags: WavTags;
  /** What was odd: complete once `blocks()` has ended. */
  readonly remarks: ReadonlySet<WavRemark>;
}

/** Sound passes on in pieces of about this size, whatever the source's pieces are. */
const pieceBytes = 128 * 1024;
/** No more than this much of an ID3 tag or a `bext` chunk is kept to be looked at; pictures can be large. */
const maxTagChunkBytes = 1024 * 1024;
/** Files have a few dozen chunks; more than these would only cost time. */
const maxChunkCount = 100_000;

/**
 * Reads a WAV up to its first block of sound. RIFF and `fmt `: Microsoft and IBM, Multimedia Programming Interface 1.0,
 * and Microsoft's WAVEFORMATEXTENSIBLE; RF64 and BW64: EBU Tech 3306, ITU-R BS.2088. Headers that are wrong about
 * sizes are read as players read them: the sound goes on to the end of the file. A file that is refused is closed.
 *
 * @throws {ServiceError} UNSUPPORTED_MEDIA at the first byte that shows it; UPLOAD_INCOMPLETE if there is no sound.
 */
export async function openWav(source: AsyncIterable<Buffer>): Promise<WavFile> {
  const bytes = new ByteReader(source);
  try {
    const tags = new WavTags();
    const file = new ChunkReader(bytes, await readContainer(bytes, tags), tags);
    const sound = file.sound();
    const first = await sound.next();
    if (first.done || file.format === undefined) throw noSound();
    const blocks = allBlocks(bytes, first.value, sound);
    return {
      format: file.format,
      announcedFrames: file.announcedFrames,
      tags: file.tags,
      remarks: file.remarks,
      blocks: () => blocks,
      [Symbol.asyncDispose]: async () => await bytes.close(),
    };
  } catch (error) {
    await bytes.close();
    throw error;
  }
}
async function* allBlocks(bytes: ByteReader, first: Buffer, rest: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void> {
  try {
    yield first;
    yield* rest;
  } finally {
    await bytes.close();
  }
}
/** What the first 12 bytes say: the kind of file, and how much follows them, which is often wrong. */
interface Container {
  readonly id: WavFormat["container"];
  readonly bytes: number;
}

/** Reads the first 12 bytes; players pass over an ID3v2 tag in front of them, and so does this. */
async function readContainer(bytes: ByteReader, tags: WavTags): Promise<Container> {
  const start = await bytes.read(4);
  if (start.toString("latin1", 0, 3) === "ID3") {
    const header = Buffer.concat([start, await bytes.read(6)]);
    const bodyBytes = (id3TagBytes(header) ?? 10) - 10;
    const body = await bytes.read(Math.min(bodyBytes, maxTagChunkBytes));
    tags.addId3(Buffer.concat([header, body]));
    await bytes.skip(bodyBytes - body.length);
    const next = await bytes.read(4);
    if (!isContainer(next.toString("latin1"))) throw notWav("MP3");
    return await readForm(bytes, next.toString("latin1"));
  }
  return await readForm(bytes, start.toString("latin1"));
}

async function readForm(bytes: ByteReader, container: string): Promise<Container> {
  if (container.length < 4) {
    if (["RIFF", "RIFX", "RF64", "BW64"].some((name) => name.startsWith(container))) throw noSound();
    throw notWav();
  }
  if (!isContainer(container)) throw notWav(kindOf(container));
  const header = await bytes.read(8);
  const form = header.toString("latin1", 4);
  if (form.length < 4 && "WAVE".startsWith(form)) throw noSound();
  if (form !== "WAVE") throw notWav(`a RIFF file of another kind ("${printable(form)}")`);
  return { id: container, bytes: uint32(header, 0, isBigEndian(container)) };
}

function isContainer(id: string): id is WavFormat["container"] {
  return id === "RIFF" || id === "RIFX" || id === "RF64" || id === "BW64";
}

/** What a file is that people send instead of a WAV, by its first four bytes. */
function kindOf(start: string): string | undefined {
  const kinds: Readonly<Record<string, string>> = {
    fLaC: "FLAC",
    OggS: "Ogg",
    FORM: "AIFF",
    caff: "CAF",
    riff: "Wave64",
    "PK\x03\x04": "a ZIP archive",
    "%PDF": "a PDF",
    "\x1aE\xdf\xa3": "WebM or Matroska",
    "\x30\x26\xb2\x75": "WMA",
    ".snd": "AU",
    UklG: "a WAV in Base64: send the bytes that it stands for",
    data: "a data URL: send the bytes that it stands for",
  };
  if (start.startsWith("\x1f\x8b")) return "gzip: send it unpacked";
  if (/^\xff[\xe2-\xfd]/u.test(start)) return "MP3 or AAC";
  return /^\0{3}[^\0]/u.test(start) ? "MP4" : kinds[start];
}

/** Walks through the chunks of the file: those before the sound, the sound, those behind it. */
class ChunkReader {
  readonly tags: WavTags;
  readonly remarks = new Set<WavRemark>();
  format: WavFormat | undefined;
  announcedFrames: number | undefined;
  readonly #bytes: ByteReader;
  readonly #container: WavFormat["container"];
  readonly #bigEndian: boolean;
  /** Size of the file by its own word. */
  #fileBytes: number;
  /** Size of the sound by the `ds64` chunk; 0 where that leaves it open or there is none. */
  #ds64DataBytes = 0;
  /** Whether the last chunk had an odd size, so that a pad byte should follow. */
  #atPad = false;

  constructor(bytes: ByteReader, container: Container, tags: WavTags) {
    this.tags = tags;
    this.#bytes = bytes;
    this.#container = container.id;
    this.#bigEndian = isBigEndian(container.id);
    this.#fileBytes = container.bytes;
  }

  /** The sound of all `data` chunks; everything else is read on the way. */
  async *sound(): AsyncGenerator<Buffer, void, void> {
    if (this.#container === "RF64" || this.#container === "BW64") await this.#readDs64();
    let found = false;
    let count = 0;
    for (let chunk = await this.#nextChunk(); chunk !== undefined; chunk = await this.#nextChunk()) {
      if (++count > maxChunkCount && !found) throw unsupported(`more than ${maxChunkCount} chunks before its sound`);
      if (count > maxChunkCount || (found && !/^[\x20-\x7e]{4}$/u.test(chunk.id))) {
        this.remarks.add("TRAILING_JUNK");
        await this.#bytes.skip(Infinity);
      } else if (chunk.id === "data") {
        for await (const piece of this.#soundOf(chunk.bytes, found)) {
          found = true;
          yield piece;
        }
      } else if (chunk.id === "fmt " && this.format === undefined) {
        await this.#readFormat(chunk.bytes);
      } else if (!(await this.#readOther(chunk)) && found) {
        this.remarks.add("TRAILING_JUNK");
      }
    }
  }

  /** The next chunk's header. Writers forget pad bytes: where one should be, the chunk's name tells if it is there. */
  async #nextChunk(): Promise<{ readonly id: string; readonly bytes: number } | undefined> {
    let header = await this.#bytes.read(this.#atPad ? 9 : 8);
    if (this.#atPad) {
      const isPadded = !isKnownChunk(header.toString("latin1", 0, 4)) || isKnownChunk(header.toString("latin1", 1, 5));
      if (!isPadded) this.#bytes.unread(header.subarray(8));
      header = isPadded ? header.subarray(1) : header.subarray(0, 8);
    }
    if (header.length < 8) {
      if (this.format !== undefined && header.length > 0) this.remarks.add("TRAILING_JUNK");
      return undefined;
    }
    const bytes = uint32(header, 4, this.#bigEndian);
    this.#atPad = bytes % 2 === 1;
    return { id: header.toString("latin1", 0, 4), bytes };
  }

  /** The sound of one `data` chunk. */
  async *#soundOf(statedBytes: number, isLater: boolean): AsyncGenerator<Buffer, void, void> {
    const format = this.format;
    if (format === undefined) {
      throw new ServiceError("UNSUPPORTED_MEDIA", "The WAV does not state its format before its sound begins.");
    }
    const size = this.#ds64DataBytes > 0 && !isLater ? this.#ds64DataBytes : statedBytes;
    const isOpen = size === 0 ? !isKnownChunk(await this.#bytes.peek(4)) : isPlaceholder(size);
    const promised = isOpen ? Infinity : size;
    this.#atPad = size % 2 === 1;
    // A size of sound beyond that of the file was never filled in: nothing may be refused for it.
    if (!isLater) this.announcedFrames = isOpen || size > this.#fileBytes ? undefined : framesIn(format, size);
    const got = yield* this.#wholeBlocks(format, promised);
    if (!isOpen && framesIn(format, got) < framesIn(format, promised)) this.remarks.add("CUT_SHORT");
  }

  /** Cuts up to `limit` bytes into pieces of whole blocks, without copying where the source's pieces fit. */
  async *#wholeBlocks(format: WavFormat, limit: number): AsyncGenerator<Buffer, number, void> {
    const { blockAlign } = format;
    const step = Math.max(pieceBytes - (pieceBytes % blockAlign), blockAlign);
    let got = 0;
    let rest: Buffer = Buffer.alloc(0);
    while (got < limit) {
      const taken = await this.#bytes.take(limit - got);
      if (taken === undefined) break;
      got += taken.length;
      // Only the block that is cut in two is put together: copying all that follows would double the garbage.
      const completing = rest.length === 0 ? 0 : Math.min(blockAlign - rest.length, taken.length);
      if (completing > 0) {
        rest = Buffer.concat([rest, taken.subarray(0, completing)]);
        if (rest.length < blockAlign) continue;
        yield rest;
      }
      const whole = taken.length - ((taken.length - completing) % blockAlign);
      for (let start = completing; start < whole; start += step)
        yield taken.subarray(start, Math.min(start + step, whole));
      rest = taken.subarray(whole);
    }
    if (framesInBlock(format, rest.length) > 0) yield rest;
    return got;
  }

  /** RF64 and BW64 begin with the true sizes, as their 32-bit fields cannot hold them. */
  async #readDs64(): Promise<void> {
    const chunk = await this.#nextChunk();
    if (chunk === undefined) throw noSound();
    if (chunk.id !== "ds64" || chunk.bytes < 24) {
      throw new ServiceError("UNSUPPORTED_MEDIA", `The ${this.#container} file does not begin with its sizes (ds64).`);
    }
    const sizes = await this.#bytes.read(24);
    if (sizes.length < 24) throw noSound();
    const dataBytes = sizes.readBigUInt64LE(8);
    if (dataBytes >= 2n ** 63n) {
      throw new ServiceError("UNSUPPORTED_MEDIA", `The WAV states an impossible size of ${dataBytes} bytes of sound.`);
    }
    this.#ds64DataBytes = Number(dataBytes);
    this.#fileBytes = Number(sizes.readBigUInt64LE(0));
    await this.#bytes.skip(chunk.bytes - 24);
  }

  async #readFormat(size: number): Promise<void> {
    const wanted = Math.min(size, 40);
    const fmt = await this.#bytes.read(wanted);
    if (fmt.length < wanted) throw noSound();
    this.format = parseFormat(fmt, this.#container);
    await this.#bytes.skip(size - wanted);
  }
  /** Reads a chunk that is not sound; false if it has no known name and the file ends within it. */
  async #readOther({ id, bytes }: { readonly id: string; readonly bytes: number }): Promise<boolean> {
    let left = bytes;
    if (id === "LIST" && bytes >= 4) {
      left -= 4;
      if ((await this.#bytes.read(4)).toString("latin1") === "INFO") left = await this.#readInfo(left);
    } else if (id === "bext" || id.toLowerCase() === "id3 ") {
      const chunk = await this.#bytes.read(Math.min(bytes, maxTagChunkBytes));
      left -= chunk.length;
      if (id === "bext") this.tags.addBext(chunk);
      else this.tags.addId3(chunk);
    }
    return (await this.#bytes.skip(left)) === left || isKnownChunk(id);
  }

  /** Reads the sub-chunks of a LIST of form INFO; returns how many of its bytes are left. */
  async #readInfo(bytes: number): Promise<number> {
    let left = bytes;
    for (let count = 0; left >= 8 && count < maxChunkCount; count++) {
      const header = await this.#bytes.read(8);
      left -= header.length;
      if (header.length < 8) break;
      const id = header.toString("latin1", 0, 4);
      const size = Math.min(uint32(header, 4, this.#bigEndian), left);
      const value = await this.#bytes.read(isKnownInfo(id) ? Math.min(size, maxTagBytes) : 0);
      this.tags.addInfo(id, value);
      const padded = Math.min(size + (size % 2), left);
      await this.#bytes.skip(padded - value.length);
      left -= padded;
    }
    return left;
  }
}
/** Sizes that programs leave in a header that they could not go back to. */
function isPlaceholder(dataBytes: number): boolean {
  return (
    (dataBytes >= 0x7fff_f000 && dataBytes <= 0x8000_0000) || (dataBytes >= 0xffff_f000 && dataBytes <= 0xffff_ffff)
  );
}

/** Names of chunks that stand in WAV files, told apart by them from sound and from pad bytes. */
const knownChunks = new Set(
  (
    "fmt ,data,fact,LIST,bext,id3 ,ID3 ,cue ,smpl,inst,acid,JUNK,junk,PAD ,FLLR,iXML,aXML,axml,chna,cart,PEAK,DISP," +
    "plst,_PMX,afsp,umid,minf,elm1,regn,levl,LGWV,ResU,strc,wavl,slnt,qlty,mext,link,ds64,CSET,bxml,sxml"
  ).split(","),
);

function isKnownChunk(id: string): boolean {
  return knownChunks.has(id);
}

function printable(id: string): string {
  return id.replaceAll(/[^\x20-\x7e]/gu, "?");
}

function noSound(): ServiceError {
  return new ServiceError("UPLOAD_INCOMPLETE", "The file ended before its sound began. Send the whole file.");
}

function notWav(kind?: string): ServiceError {
  const guess = kind === undefined ? "" : ` It looks like ${kind}.`;
  return new ServiceError("UNSUPPORTED_MEDIA", `The file is not a WAV.${guess}`);
}
