/**
 * A chunk of a RIFF file. `size` overrides the size in its header; `padded: false` omits the pad byte of an odd size.
 */
export interface ChunkOptions {
  size?: number;
  bigEndian?: boolean;
  padded?: boolean;
}

/** The fields of a format chunk. Missing ones are computed from the others, as in a correct header. */
export interface FormatOptions {
  /** Format tag: 1 PCM, 2 MS ADPCM, 3 float, 6 A-law, 7 µ-law, 0x11 IMA ADPCM. */
  tag?: number;
  channels?: number;
  sampleRateHz?: number;
  bits?: number;
  blockAlign?: number;
  bytesPerSecond?: number;
  /** Makes the chunk a WAVEFORMATEXTENSIBLE. */
  extensible?: { validBits?: number; channelMask?: number; cbSize?: number; isAmbisonic?: boolean };
  /** The bytes after the first 16 of a plain format chunk. */
  extra?: Buffer;
  bigEndian?: boolean;
}

/** A whole file: the format, chunks before the sound, the sound, chunks after it, bytes after the end. */
export interface WavOptions {
  container?: "RIFF" | "RIFX" | "RF64" | "BW64";
  format?: FormatOptions;
  /** The body of a format chunk, in place of `format`. */
  formatChunk?: Buffer;
  before?: readonly Buffer[];
  data?: Buffer;
  /** The size in the header of the file; else it is the true one (0xFFFFFFFF in RF64 and BW64). */
  size?: number;
  /** The size in the header of the `data` chunk; else it is the true one (0xFFFFFFFF in RF64 and BW64). */
  dataSize?: number;
  after?: readonly Buffer[];
  junk?: Buffer;
}

/** A sine for every channel, full scale at `amplitude` 1; channel n is at n + 1 times the frequency. */
export interface SineOptions {
  seconds: number;
  frequencyHz?: number;
  amplitude?: number;
  sampleRateHz?: number;
  channels?: number;
  bits?: 8 | 16 | 24 | 32 | 64;
  isFloat?: boolean;
}

/** One chunk with its header and pad byte. */
export function chunk(id: string, body: Buffer, options: ChunkOptions = {}): Buffer {
  const header = Buffer.alloc(8);
  header.write(id, "latin1");
  const size = options.size ?? body.length;
  if (options.bigEndian) header.writeUInt32BE(size, 4);
  else header.writeUInt32LE(size, 4);
  return Buffer.concat([header, body, Buffer.alloc(options.padded === false ? 0 : body.length % 2)]);
}

/** The body of a format chunk. */
export function formatChunk(options: FormatOptions = {}): Buffer {
  const { tag = 1, channels = 2, sampleRateHz = 44_100, bits = 16, extensible } = options;
  const blockAlign = options.blockAlign ?? channels * Math.ceil(bits / 8);
  const fmt = Buffer.alloc(extensible === undefined ? 16 : 40);
  fmt.writeUInt16LE(extensible === undefined ? tag : 0xfffe, 0);
  fmt.writeUInt16LE(channels, 2);
  fmt.writeUInt32LE(sampleRateHz, 4);
  fmt.writeUInt32LE(options.bytesPerSecond ?? sampleRateHz * blockAlign, 8);
  fmt.writeUInt16LE(blockAlign, 12);
  fmt.writeUInt16LE(bits, 14);
  if (extensible !== undefined) {
    fmt.writeUInt16LE(extensible.cbSize ?? 22, 16);
    fmt.writeUInt16LE(extensible.validBits ?? bits, 18);
    fmt.writeUInt32LE(extensible.channelMask ?? 0, 20);
    fmt.writeUInt32LE(tag, 24);
    fmt.write(extensible.isAmbisonic ? "2107d3118644c8c1ca000000" : "00001000800000aa00389b71", 28, "hex");
  }
  if (options.bigEndian) {
    for (const at of [0, 2, 12, 14, ...(extensible === undefined ? [] : [16, 18])]) fmt.subarray(at, at + 2).swap16();
    for (const at of [4, 8, ...(extensible === undefined ? [] : [20, 24])]) fmt.subarray(at, at + 4).swap32();
  }
  return Buffer.concat([fmt, options.extra ?? Buffer.alloc(0)]);
}

/** A file of any container; RF64 and BW64 carry the size of the sound in their `ds64` chunk. */
export function wavFile(options: WavOptions = {}): Buffer {
  const { container = "RIFF", data = Buffer.alloc(0) } = options;
  const bigEndian = container === "RIFX";
  const is64 = container === "RF64" || container === "BW64";
  const ds64 = Buffer.alloc(28);
  ds64.writeBigUInt64LE(BigInt(data.length + 72), 0);
  ds64.writeBigUInt64LE(BigInt(data.length), 8);
  const body = Buffer.concat([
    Buffer.from("WAVE"),
    is64 ? chunk("ds64", ds64) : Buffer.alloc(0),
    chunk("fmt ", options.formatChunk ?? formatChunk({ bigEndian, ...options.format }), { bigEndian }),
    ...(options.before ?? []),
    chunk("data", data, { bigEndian, size: options.dataSize ?? (is64 ? 0xffff_ffff : data.length) }),
    ...(options.after ?? []),
  ]);
  return Buffer.concat([
    chunk(container, body, { bigEndian, size: options.size ?? (is64 ? 0xffff_ffff : body.length) }),
    options.junk ?? Buffer.alloc(0),
  ]);
}

/** Chunks of a Sony Wave64 file: name, body, and a size in the header that differs from the true one. */
type Wave64Chunk = readonly [id: string, body: Buffer, statedBytes?: bigint];

/** A Sony Wave64 file: chunk headers are GUIDs and 64-bit sizes that include them, at multiples of 8 bytes. */
export function wave64File({ form = "wave", chunks }: { form?: string; chunks: readonly Wave64Chunk[] }): Buffer {
  const header = (id: string, tail: string, size: bigint): Buffer => {
    const bytes = Buffer.alloc(24);
    bytes.write(id, "latin1");
    bytes.write(tail, 4, "hex");
    bytes.writeBigUInt64LE(size, 16);
    return bytes;
  };
  const tail = "f3acd3118cd100c04f8edb8a";
  const parts = chunks.map(([id, body, stated]) =>
    Buffer.concat([
      header(id, tail, stated ?? BigInt(24 + body.length)),
      body,
      Buffer.alloc((8 - (body.length % 8)) % 8),
    ]),
  );
  const body = Buffer.concat([header(form, tail, 0n).subarray(0, 16), ...parts]);
  return Buffer.concat([header("riff", "2e91cf11a5d628db04c10000", BigInt(24 + body.length)), body]);
}

/** A correct WAV of a sine. */
export function sineWav(options: SineOptions): Buffer {
  const { data, format } = sine(options);
  return wavFile({ format, data });
}

/** The same file as {@link sineWav}, created piece by piece, for lengths that should not be held in memory. */
export async function* sineWavStream(options: SineOptions): AsyncGenerator<Buffer, void> {
  const whole = { sampleRateHz: 44_100, ...options };
  const second = sine({ ...whole, seconds: 1, frequencyHz: Math.round(options.frequencyHz ?? 440) });
  const frameBytes = second.data.length / whole.sampleRateHz;
  const dataBytes = Math.round(options.seconds * whole.sampleRateHz) * frameBytes;
  yield wavFile({ format: second.format, size: dataBytes + 36, dataSize: dataBytes });
  // A sine of a whole number of hertz begins anew every second.
  for (let left = dataBytes; left > 0; left -= second.data.length) yield second.data.subarray(0, left);
}

/** A LIST chunk of form INFO; text values are stored as UTF-8 with a NUL behind them. */
export function infoChunk(values: Readonly<Record<string, string | Buffer>>, bigEndian = false): Buffer {
  const parts = Object.entries(values).map(([id, value]) =>
    chunk(id, typeof value === "string" ? Buffer.from(`${value}\0`) : value, { bigEndian }),
  );
  return chunk("LIST", Buffer.concat([Buffer.from("INFO"), ...parts]), { bigEndian });
}

/** A broadcast extension chunk of version 1. */
export function bextChunk(values: {
  description?: string;
  originator?: string;
  originationDate?: string;
  originationTime?: string;
  timeReferenceSamples?: number;
}): Buffer {
  const bext = Buffer.alloc(602);
  bext.write(values.description ?? "", 0, 256, "latin1");
  bext.write(values.originator ?? "", 256, 32, "latin1");
  bext.write(values.originationDate ?? "", 320, 10, "latin1");
  bext.write(values.originationTime ?? "", 330, 8, "latin1");
  bext.writeBigUInt64LE(BigInt(values.timeReferenceSamples ?? 0), 338);
  bext.writeUInt16LE(1, 346);
  return chunk("bext", bext);
}

/** A `cue ` chunk, and a list with the labels of its points, as UTF-8. */
export function cueChunks(points: readonly { number: number; sample: number; label?: string }[]): Buffer[] {
  const cue = Buffer.alloc(4 + 24 * points.length);
  cue.writeUInt32LE(points.length);
  for (const [at, { number, sample }] of points.entries()) {
    cue.writeUInt32LE(number, 4 + 24 * at);
    cue.writeUInt32LE(sample, 24 + 24 * at);
  }
  const labels = points.flatMap(({ number, label }) =>
    label === undefined ? [] : [chunk("labl", Buffer.concat([Buffer.of(number, 0, 0, 0), Buffer.from(`${label}\0`)]))],
  );
  return [chunk("cue ", cue), chunk("LIST", Buffer.concat([Buffer.from("adtl"), ...labels]))];
}

/** An ID3v2 tag of frames with the given bodies (the encoding byte is part of a body). */
export function id3Tag(
  version: 2 | 3 | 4,
  frames: readonly (readonly [id: string, body: Buffer])[],
  flags = 0,
): Buffer {
  const body = Buffer.concat(
    frames.map(([id, text]) => {
      const header = Buffer.alloc(version === 2 ? 6 : 10);
      header.write(id, "latin1");
      if (version === 2) header.writeUIntBE(text.length, 3, 3);
      else header.writeUInt32BE(version === 4 ? syncsafe(text.length) : text.length, 4);
      return Buffer.concat([header, text]);
    }),
  );
  const header = Buffer.from([0x49, 0x44, 0x33, version, 0, flags, 0, 0, 0, 0]);
  header.writeUInt32BE(syncsafe(body.length), 6);
  return Buffer.concat([header, body]);
}

/** Yields bytes in pieces of this size, as a network does. */
export async function* inPieces(bytes: Buffer, pieceBytes = bytes.length): AsyncGenerator<Buffer, void> {
  for (let start = 0; start < bytes.length; start += pieceBytes) yield bytes.subarray(start, start + pieceBytes);
}

/** Numbers from 0 to 1 that are the same in every run (xorshift32). */
export function seededRandom(seed: number): () => number {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

// Looking up a global is slow in Jest's contexts, and this runs for every sample.
const { sin, round, min, max, PI } = Math;

function sine(options: SineOptions): { data: Buffer; format: FormatOptions } {
  const { frequencyHz = 440, amplitude = 0.5, sampleRateHz = 44_100, channels = 2, bits = 16, isFloat } = options;
  const frames = Math.round(options.seconds * sampleRateHz);
  const data = Buffer.alloc((frames * channels * bits) / 8);
  let at = 0;
  for (let frame = 0; frame < frames; frame++) {
    for (let channel = 0; channel < channels; channel++) {
      const value = amplitude * sin((2 * PI * frequencyHz * (channel + 1) * frame) / sampleRateHz);
      at = writeSample(data, at, value, bits, isFloat === true);
    }
  }
  return { data, format: { tag: isFloat ? 3 : 1, channels, sampleRateHz, bits } };
}

function writeSample(data: Buffer, at: number, value: number, bits: number, isFloat: boolean): number {
  if (isFloat) return bits === 64 ? data.writeDoubleLE(value, at) : data.writeFloatLE(value, at);
  if (bits === 64) return data.writeBigInt64LE(BigInt(round(value * 2 ** 52)) << 11n, at);
  const fullScale = 2 ** (bits - 1);
  const integer = max(-fullScale, min(fullScale - 1, round(value * fullScale)));
  if (bits === 8) return data.writeUInt8(integer + 128, at);
  return bits === 16 ? data.writeInt16LE(integer, at) : data.writeIntLE(integer, at, bits / 8);
}

function syncsafe(size: number): number {
  return ((size & 0xfe00000) << 3) | ((size & 0x1fc000) << 2) | ((size & 0x3f80) << 1) | (size & 0x7f);
}
