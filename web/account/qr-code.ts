/**
 * The codes of level L that are used: total codewords, codewords for correction in each block, blocks (ISO/IEC 18004,
 * table 9).
 */
const versions = [
  [26, 7, 1],
  [44, 10, 1],
  [70, 15, 1],
  [100, 20, 1],
  [134, 26, 1],
  [172, 18, 2],
  [196, 20, 2],
  [242, 24, 2],
  [292, 30, 2],
] as const;

/** Most bytes of a text that fit into a code of version 9. */
export const longestQrText = 230;

/** Centres of the small squares, by version (annex E). */
const alignments = [[], [6, 18], [6, 22], [6, 26], [6, 30], [6, 34], [6, 22, 38], [6, 24, 42], [6, 26, 46]];

/** Powers of 2 in the field of 256 elements with the polynomial 0x11d. */
const powers = new Uint8Array(255);
const logarithms = new Uint8Array(256);
for (let i = 0, x = 1; i < 255; i++) {
  powers[i] = x;
  logarithms[x] = i;
  x = x < 128 ? x * 2 : (x * 2) ^ 0x11d;
}

function times(a: number, b: number): number {
  return a === 0 || b === 0 ? 0 : powers[(logarithms[a]! + logarithms[b]!) % 255]!;
}

/**
 * A QR code of level L, up to version 9 (230 bytes): rows of modules, true is dark. Without the quiet zone of 4
 * modules.
 * @throws {RangeError} if the text is longer
 */
export function qrCode(text: string): boolean[][] {
  const bytes = new TextEncoder().encode(text);
  const version =
    1 + versions.findIndex(([total, correction, blocks]) => bytes.length + 2 <= total - correction * blocks);
  if (version === 0) throw new RangeError("The text is too long for a QR code.");
  return place(codewords(bytes, version), version);
}

/** The data in byte mode, padded, with Reed-Solomon codes, interleaved by blocks. */
function codewords(bytes: Uint8Array, version: number): number[] {
  const [total, correction, blocks] = versions[version - 1]!;
  const room = total - correction * blocks;
  // 4 bits of mode, 8 of length, the bytes, 4 bits of the end: every byte is split over two codewords
  const data = [0x40 | (bytes.length >> 4), ((bytes.length & 15) << 4) | ((bytes[0] ?? 0) >> 4)];
  for (let i = 0; i < bytes.length; i++) data.push(((bytes[i]! & 15) << 4) | ((bytes[i + 1] ?? 0) >> 4));
  for (let pad = 0; data.length < room; pad++) data.push(pad % 2 === 0 ? 0xec : 0x11);
  const size = room / blocks;
  const parts = Array.from({ length: blocks }, (_, block) => data.slice(block * size, (block + 1) * size));
  const codes = parts.map((part) => correctionOf(part, correction));
  const interleaved = (lists: number[][]): number[] => lists[0]!.flatMap((_, i) => lists.map((list) => list[i]!));
  return [...interleaved(parts), ...interleaved(codes)];
}

function correctionOf(data: readonly number[], length: number): number[] {
  let generator = [1];
  for (let i = 0; i < length; i++) {
    generator = [...generator, 0].map((x, at) => x ^ times(generator[at - 1] ?? 0, powers[i]!));
  }
  const rest = [...data, ...Array<number>(length).fill(0)];
  for (let i = 0; i < data.length; i++) {
    const factor = rest[i]!;
    for (let at = 0; at <= length; at++) rest[i + at]! ^= times(generator[at]!, factor);
  }
  return rest.slice(data.length);
}

function place(words: readonly number[], version: number): boolean[][] {
  const size = 17 + 4 * version;
  const modules = Array.from({ length: size }, () => Array<boolean | undefined>(size).fill(undefined));
  const set = (row: number, column: number, isDark: boolean): void => {
    if (row >= 0 && column >= 0 && row < size && column < size) modules[row]![column] = isDark;
  };
  const square = (row: number, column: number, reach: number, isDark: (ring: number) => boolean): void => {
    for (let y = -reach; y <= reach; y++) {
      for (let x = -reach; x <= reach; x++) set(row + y, column + x, isDark(Math.max(Math.abs(y), Math.abs(x))));
    }
  };
  for (let i = 8; i < size - 8; i++) {
    set(6, i, i % 2 === 0);
    set(i, 6, i % 2 === 0);
  }
  for (const [row, column] of [
    [3, 3],
    [3, size - 4],
    [size - 4, 3],
  ] as const) {
    square(row, column, 4, (ring) => ring !== 2 && ring !== 4);
  }
  for (const row of alignments[version - 1]!) {
    for (const column of alignments[version - 1]!) {
      const isAtFinder = [row, column].every((at) => at === 6 || at === size - 7) && row + column < 2 * size - 14;
      if (!isAtFinder) square(row, column, 2, (ring) => ring !== 1);
    }
  }
  placeFormat(set, size);
  if (version >= 7) placeVersion(set, size, version);
  return withData(modules, words);
}

type Set = (row: number, column: number, isDark: boolean) => void;

/** A number followed by the remainder of its division by a polynomial, which readers use to correct it. */
function withRemainder(value: number, polynomial: number, bits: number): number {
  let rest = value;
  for (let i = 0; i < bits; i++) rest = (rest << 1) ^ ((rest >> (bits - 1)) * polynomial);
  return (value << bits) | rest;
}

/** Level L and mask 0, twice, and the module that is always dark (section 7.9). */
function placeFormat(set: Set, size: number): void {
  const format = withRemainder(0b01000, 0x537, 10) ^ 0x5412;
  for (let i = 0; i < 15; i++) {
    const isDark = ((format >> i) & 1) === 1;
    if (i < 8) set(i < 6 ? i : i + 1, 8, isDark);
    else set(8, i === 8 ? 7 : 14 - i, isDark);
    if (i < 8) set(8, size - 1 - i, isDark);
    else set(size - 15 + i, 8, isDark);
  }
  set(size - 8, 8, true);
}

/** Two fields with the version, from version 7 on (section 7.10). */
function placeVersion(set: Set, size: number, version: number): void {
  const field = withRemainder(version, 0x1f25, 12);
  for (let i = 0; i < 18; i++) {
    const [along, across] = [size - 11 + (i % 3), Math.floor(i / 3)];
    set(across, along, ((field >> i) & 1) === 1);
    set(along, across, ((field >> i) & 1) === 1);
  }
}

/** Puts the codewords where nothing is yet: in pairs of columns from the right, up and down, with mask 0. */
function withData(modules: readonly (boolean | undefined)[][], words: readonly number[]): boolean[][] {
  const size = modules.length;
  const filled = modules.map((row) => row.map(Boolean));
  let bit = 0;
  for (let right = size - 1; right >= 1; right -= 2) {
    if (right === 6) right = 5; // the column of the timing pattern
    for (let step = 0; step < size; step++) {
      const row = ((right + 1) & 2) === 0 ? size - 1 - step : step;
      for (const column of [right, right - 1]) {
        if (modules[row]![column] !== undefined) continue;
        const isSet = (((words[bit >> 3] ?? 0) >> (7 - (bit & 7))) & 1) === 1;
        bit += 1;
        filled[row]![column] = isSet !== ((row + column) % 2 === 0);
      }
    }
  }
  return filled;
}
