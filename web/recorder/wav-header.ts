/** Size of the header of a take, in bytes. */
export const headerBytes = 44;

/** Size in a header of a file that is still growing. */
const open = 0xffff_ffff;

/**
 * The header of a WAV of 16-bit PCM.
 * @param soundBytes undefined while the file grows: readers then take what is there
 */
export function wavHeader(
  format: { sampleRateHz: number; channels: number },
  soundBytes?: number,
): Uint8Array<ArrayBuffer> {
  const { sampleRateHz, channels } = format;
  const view = new DataView(new ArrayBuffer(headerBytes));
  const text = (at: number, letters: string): void => {
    for (let i = 0; i < letters.length; i++) view.setUint8(at + i, letters.charCodeAt(i));
  };
  text(0, "RIFF");
  view.setUint32(4, soundBytes === undefined ? open : soundBytes + headerBytes - 8, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, channels, true);
  view.setUint32(24, sampleRateHz, true);
  view.setUint32(28, sampleRateHz * channels * 2, true);
  view.setUint16(32, channels * 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, soundBytes ?? open, true);
  return new Uint8Array(view.buffer);
}

/** The format in the header of a take. */
export function readTakeFormat(header: ArrayBuffer): { sampleRateHz: number; channels: number } {
  const view = new DataView(header);
  return { channels: view.getUint16(22, true), sampleRateHz: view.getUint32(24, true) };
}
