/**
 * Decodes ADPCM blocks of WAV files: Microsoft ADPCM (format tag 2) and IMA/DVI ADPCM (format tag 17). Both are
 * described in Microsoft's "Multimedia Data Standards Update" (1994). Each block can be decoded independently.
 */

/** Frames in a block of `bytes` of Microsoft ADPCM. The last block of a file may be truncated and have fewer. */
export function framesInMsBlock(bytes: number, channels: number): number {
  return bytes < 7 * channels ? 0 : Math.floor(((bytes - 6 * channels) * 2) / channels);
}

/** Frames in a block of `bytes` of IMA ADPCM. The last block of a file may be truncated and have fewer. */
export function framesInImaBlock(bytes: number, channels: number, bitsPerSample: number): number {
  const group = imaGroups[bitsPerSample];
  if (group === undefined || bytes < 4 * channels) return 0;
  return 1 + Math.floor((bytes - 4 * channels) / (group.bytes * channels)) * group.samples;
}

/** Whether IMA ADPCM is defined for this number of bits per sample. */
export function isImaDepth(bitsPerSample: number): boolean {
  return bitsPerSample in imaGroups;
}

const msAdaptation = [230, 230, 230, 230, 307, 409, 512, 614, 768, 614, 512, 409, 307, 230, 230, 230] as const;
const msCoefficients = [
  [256, 0],
  [512, -256],
  [0, 0],
  [192, 64],
  [240, 0],
  [460, -208],
  [392, -232],
] as const;
/** Keeps a step small enough for a 32-bit product. Only damaged blocks come near this limit. */
const msMaxDelta = 2_796_202;

/**
 * Decodes one block of Microsoft ADPCM of 1 or 2 channels to interleaved samples. Returns none if the block's header is
 * damaged.
 */
export function decodeMsBlock(block: Buffer, channels: number): Int16Array {
  const frames = framesInMsBlock(block.length, channels);
  const samples = new Int16Array(frames * channels);
  const state = Array.from({ length: channels }, (_, channel) => ({
    coefficients: msCoefficients[block[channel]!],
    delta: block.readInt16LE(channels + 2 * channel),
    last: block.readInt16LE(3 * channels + 2 * channel),
    secondLast: block.readInt16LE(5 * channels + 2 * channel),
  }));
  if (state.some(({ coefficients }) => coefficients === undefined)) return new Int16Array(0);
  state.forEach(({ last, secondLast }, channel) => {
    samples[channel] = secondLast;
    samples[channels + channel] = last;
  });
  for (let i = 2 * channels, nibbleIndex = 0; i < samples.length; i++, nibbleIndex++) {
    const byte = block[7 * channels + (nibbleIndex >> 1)]!;
    const nibble = (nibbleIndex & 1) === 0 ? byte >> 4 : byte & 15;
    const of = state[i % channels]!;
    const [first, second] = of.coefficients!;
    const predicted = Math.trunc((of.last * first + of.secondLast * second) / 256);
    const sample = clip16(predicted + (nibble < 8 ? nibble : nibble - 16) * of.delta);
    of.secondLast = of.last;
    of.last = sample;
    of.delta = Math.min(Math.max((msAdaptation[nibble]! * of.delta) >> 8, 16), msMaxDelta);
    samples[i] = sample;
  }
  return samples;
}

/** The channels alternate in groups of whole words: `bytes` of one channel contain `samples`. */
const imaGroups: Readonly<Record<number, { readonly bytes: number; readonly samples: number }>> = {
  2: { bytes: 4, samples: 16 },
  3: { bytes: 12, samples: 32 },
  4: { bytes: 4, samples: 8 },
  5: { bytes: 20, samples: 32 },
};

/** How far a code, without its sign bit, moves the step index; by number of bits per code. */
export const imaIndexMoves: Readonly<Record<number, readonly number[]>> = {
  2: [-1, 2],
  3: [-1, -1, 1, 2],
  4: [-1, -1, -1, -1, 2, 4, 6, 8],
  5: [-1, -1, -1, -1, -1, -1, -1, -1, 1, 2, 4, 6, 8, 10, 13, 16],
};

/** Step sizes of IMA ADPCM, and a part of them of OKI ADPCM. */
export const imaSteps = Int16Array.from([
  7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 19, 21, 23, 25, 28, 31, 34, 37, 41, 45, 50, 55, 60, 66, 73, 80, 88, 97, 107, 118,
  130, 143, 157, 173, 190, 209, 230, 253, 279, 307, 337, 371, 408, 449, 494, 544, 598, 658, 724, 796, 876, 963, 1060,
  1166, 1282, 1411, 1552, 1707, 1878, 2066, 2272, 2499, 2749, 3024, 3327, 3660, 4026, 4428, 4871, 5358, 5894, 6484,
  7132, 7845, 8630, 9493, 10442, 11487, 12635, 13899, 15289, 16818, 18500, 20350, 22385, 24623, 27086, 29794, 32767,
]);

/** Decodes one block of IMA ADPCM to interleaved samples. Returns none if the block's header is damaged. */
export function decodeImaBlock(block: Buffer, channels: number, bitsPerSample: number): Int16Array {
  const samples = new Int16Array(framesInImaBlock(block.length, channels, bitsPerSample) * channels);
  const group = imaGroups[bitsPerSample]!;
  const moves = imaIndexMoves[bitsPerSample]!;
  const shift = bitsPerSample - 1;
  const mask = (1 << bitsPerSample) - 1;
  const sign = 1 << shift;
  const groupBytes = group.bytes * channels;
  for (let channel = 0; channel < channels; channel++) {
    let predictor = block.readInt16LE(4 * channel);
    let index = block.readInt16LE(4 * channel + 2);
    if (index < 0 || index >= imaSteps.length) return new Int16Array(0);
    samples[channel] = predictor;
    let out = channels + channel;
    for (let start = 4 * channels; start + groupBytes <= block.length; start += groupBytes) {
      let bits = 0;
      let bitCount = 0;
      for (let byte = 0; byte < group.bytes; byte++) {
        bits |= block[start + 4 * ((byte >> 2) * channels + channel) + (byte & 3)]! << bitCount;
        bitCount += 8;
        for (; bitCount >= bitsPerSample; bitCount -= bitsPerSample, bits >>= bitsPerSample) {
          const code = bits & mask;
          const magnitude = code & (sign - 1);
          const step = ((2 * magnitude + 1) * imaSteps[index]!) >> shift;
          predictor = clip16(code & sign ? predictor - step : predictor + step);
          index = Math.min(Math.max(index + moves[magnitude]!, 0), imaSteps.length - 1);
          samples[out] = predictor;
          out += channels;
        }
      }
    }
  }
  return samples;
}

function clip16(sample: number): number {
  return sample > 32_767 ? 32_767 : sample < -32_768 ? -32_768 : sample;
}
