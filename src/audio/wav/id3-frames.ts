/** Maximum number of frames that are read. Real tags have a few dozen; more would only cost time. */
const maxId3Frames = 1000;

/** Size in bytes of an ID3v2 tag including its header, from its first ten bytes; undefined if no tag begins here. */
export function id3TagBytes(header: Buffer): number | undefined {
  if (header.length < 10 || header.toString("latin1", 0, 3) !== "ID3") return undefined;
  return 10 + syncsafe(header, 6) + (header[3] === 4 && (header[5]! & 0x10) !== 0 ? 10 : 0);
}

/**
 * Frames of an ID3v2 tag (id3.org: ID3v2.2.0, ID3v2.3.0, ID3v2.4.0 Structure); compressed or encrypted frames are
 * skipped.
 */
export function* id3Frames(tag: Buffer): Generator<{ readonly id: string; readonly body: Buffer }> {
  const version = tag[3] ?? 0;
  const length = id3TagBytes(tag);
  if (length === undefined || version < 2 || version > 4) return;
  const flags = tag[5]!;
  let frames = tag.subarray(10, length);
  if (version < 4 && (flags & 0x80) !== 0) frames = withoutUnsynchronisation(frames);
  if (version > 2 && (flags & 0x40) !== 0 && frames.length >= 4) {
    frames = frames.subarray(version === 4 ? syncsafe(frames, 0) : 4 + frames.readUInt32BE(0));
  }
  const headerBytes = version === 2 ? 6 : 10;
  for (let count = 0; count < maxId3Frames && frames.length > headerBytes && frames[0] !== 0; count++) {
    const id = frames.toString("latin1", 0, version === 2 ? 3 : 4);
    const size =
      version === 2 ? frames.readUIntBE(3, 3) : version === 3 ? frames.readUInt32BE(4) : frameBytesOfVersion4(frames);
    const frameFlags = version === 2 ? 0 : frames[9]!;
    let body = frames.subarray(headerBytes, headerBytes + size);
    frames = frames.subarray(headerBytes + size);
    if (version === 3) {
      if ((frameFlags & 0xc0) !== 0) continue;
      if ((frameFlags & 0x20) !== 0) body = body.subarray(1);
    } else if (version === 4) {
      if ((frameFlags & 0x0c) !== 0) continue;
      body = body.subarray(((frameFlags & 0x40) !== 0 ? 1 : 0) + ((frameFlags & 0x01) !== 0 ? 4 : 0));
      if ((frameFlags & 0x02) !== 0 || (flags & 0x80) !== 0) body = withoutUnsynchronisation(body);
    }
    yield { id, body };
  }
}

/**
 * Sizes in version 2.4 are syncsafe, but some programs write the plain numbers of 2.3. The bytes of the next frame show
 * which.
 */
function frameBytesOfVersion4(frames: Buffer): number {
  const size = syncsafe(frames, 4);
  const plain = frames.readUInt32BE(4);
  return size !== plain && !frameBegins(frames, 10 + size) && frameBegins(frames, 10 + plain) ? plain : size;
}

function frameBegins(frames: Buffer, offset: number): boolean {
  return (
    offset === frames.length || /^(?:[A-Z][A-Z0-9]{3}|\0{4})$/u.test(frames.toString("latin1", offset, offset + 4))
  );
}

function syncsafe(bytes: Buffer, offset: number): number {
  return bytes.subarray(offset, offset + 4).reduce((sum, byte) => sum * 128 + (byte & 0x7f), 0);
}

/** Removes the zero byte after each 0xFF. */
function withoutUnsynchronisation(bytes: Buffer): Buffer {
  const kept = Buffer.allocUnsafe(bytes.length);
  let length = 0;
  for (let i = 0; i < bytes.length; i++) {
    if (bytes[i] !== 0 || i === 0 || bytes[i - 1] !== 0xff) kept[length++] = bytes[i]!;
  }
  return kept.subarray(0, length);
}
