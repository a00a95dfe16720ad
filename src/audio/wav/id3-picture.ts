import type { Picture } from "../tag-contents.ts";

/** Larger pictures are left out: they are kept in memory while the file arrives, and are a part of each download. */
const maxPictureBytes = 512 * 1024;

const frontCover = 3;

/** The picture in an APIC frame (ID3v2.3, 2.4) or a PIC frame (2.2), unless it is too large or of an unknown type. */
export function pictureIn(id: string, body: Buffer): (Picture & { readonly isFrontCover: boolean }) | undefined {
  const encoding = body[0];
  const typeAt = id === "PIC" ? 4 : body.indexOf(0, 1) + 1;
  if (typeAt < 2) return undefined;
  const description = body.subarray(typeAt + 1);
  // In UTF-16, characters have two bytes, and so has the zero at the end.
  const characterBytes = encoding === 1 || encoding === 2 ? 2 : 1;
  let end = 0;
  while (end < description.length && (description[end] !== 0 || description[end + characterBytes - 1] !== 0)) {
    end += characterBytes;
  }
  const picture = description.subarray(end + characterBytes);
  const mediaType = mediaTypeOf(picture);
  if (mediaType === undefined || picture.length > maxPictureBytes) return undefined;
  return { mediaType, bytes: picture, isFrontCover: body[typeAt] === frontCover };
}

function mediaTypeOf(picture: Buffer): Picture["mediaType"] | undefined {
  const start = picture.toString("latin1", 0, 4);
  return start.startsWith("\xff\xd8\xff") ? "image/jpeg" : start === "\x89PNG" ? "image/png" : undefined;
}
