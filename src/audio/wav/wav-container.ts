import { ServiceError } from "../../errors/errors.ts";
import type { ByteReader } from "./byte-reader.ts";
import { isContainer } from "./wav-chunks.ts";
import { isBigEndian, uint32, type WavFormat } from "./wav-format.ts";
import { id3TagBytes } from "./id3-frames.ts";
import { kindOfFile, type OtherFile } from "./other-files.ts";
import type { WavTags } from "./wav-tags.ts";

/** The first 12 bytes: the type of file, and the size of the rest, which is often wrong. */
export interface Container {
  readonly id: WavFormat["container"];
  readonly bytes: number;
}

/** Maximum number of bytes that are read of an ID3 tag or another chunk of texts. Pictures can be large. */
export const maxTagChunkBytes = 1024 * 1024;

/** Reads the first 12 bytes, after an ID3v2 tag if there is one, as players do. */
export async function readContainer(bytes: ByteReader, tags: WavTags): Promise<Container> {
  if ((await bytes.peek(3)).toString("latin1") !== "ID3") return await readForm(bytes);
  await readId3(bytes, tags);
  if (!isContainer((await bytes.peek(4)).toString("latin1"))) throw notWav(kindOfFile(Buffer.from("ID3")));
  return await readForm(bytes);
}

/** Reads an ID3v2 tag that is outside of any chunk. */
export async function readId3(bytes: ByteReader, tags: WavTags): Promise<void> {
  const tagBytes = id3TagBytes(await bytes.peek(10)) ?? 10;
  const tag = await bytes.read(Math.min(tagBytes, maxTagChunkBytes));
  tags.addId3(tag);
  await bytes.skip(tagBytes - tag.length);
}

async function readForm(bytes: ByteReader): Promise<Container> {
  const start = await bytes.read(4);
  const container = start.toString("latin1");
  if (container.length === 0) {
    throw new ServiceError("UPLOAD_INCOMPLETE", "The file is empty (0 bytes). Choose another one, or record it again.");
  }
  if (container.length < 4) {
    if (["RIFF", "RIFX", "RF64", "BW64"].some((name) => name.startsWith(container))) throw noSound();
    throw notWav();
  }
  if (!isContainer(container)) throw notWav(kindOfFile(start));
  const header = await bytes.read(8);
  const form = header.toString("latin1", 4);
  if (form.length < 4 && "WAVE".startsWith(form)) throw noSound();
  if (form !== "WAVE") {
    throw notWav({
      name: `a RIFF file of another kind ("${printable(form)}")`,
      advice: "Export the sound as WAV (PCM).",
    });
  }
  return { id: container, bytes: uint32(header, 0, isBigEndian(container)) };
}

function printable(id: string): string {
  return id.replaceAll(/[^\x20-\x7e]/gu, "?");
}

/** The error for a file that ends before its sound begins. */
export function noSound(): ServiceError {
  return new ServiceError("UPLOAD_INCOMPLETE", "The file ended before its sound began. Send the complete file.");
}

function notWav(kind?: OtherFile): ServiceError {
  const guess = kind === undefined ? "Export the sound as WAV (PCM)." : `It looks like ${kind.name}. ${kind.advice}`;
  return new ServiceError("UNSUPPORTED_MEDIA", `The file is not a WAV. ${guess}`);
}
