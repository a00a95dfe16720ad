import type { Charge } from "../limits/write-allowance.ts";
import type { StoreName } from "../settings/store-name.ts";

/** An MP3 whose frames arrive. */
export interface ArrivingMp3 {
  readonly recordId: string;
  readonly frames: AsyncIterable<Buffer>;
  /** The allowances that the bytes are charged to. */
  readonly charge: Charge;
  /** Ends the writing, which then throws the signal's reason. */
  readonly signal: AbortSignal;
}

/** Makes the head of an MP3, of at least `minBytes`: it can be padded, but not cut. */
export type MakeHead = (minBytes?: number) => Buffer;

/** Frames that have been written. The head, which is known last, completes them to an MP3. */
export interface WrittenFrames {
  readonly store: StoreName;
  readonly byteLength: number;
  /** The frames, if they are still to be stored, as a row with that of the head. */
  readonly unstored?: Buffer | undefined;
  /** Returns the head as it stands before the frames. */
  readonly complete: (makeHead: MakeHead) => Promise<Buffer>;
}

/** Frames that are stored in rows. The statement that makes the recording ready also inserts the row of the head. */
export function framesInRows(byteLength: number, unstored?: Buffer): WrittenFrames {
  return { store: "postgres", byteLength, unstored, complete: async (makeHead) => makeHead() };
}
