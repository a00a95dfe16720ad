import { ServiceError } from "../errors/errors.ts";
import type { StorageRoom } from "./storage-room.ts";

/** Passes on bytes until there are too many. */
export async function* upTo(
  maxBytes: number,
  source: AsyncIterable<Buffer>,
  failure: () => ServiceError,
): AsyncGenerator<Buffer, void, undefined> {
  let bytes = 0;
  for await (const piece of source) {
    bytes += piece.length;
    if (bytes > maxBytes) throw failure();
    yield piece;
  }
}

/** Number of bytes between two checks for free space. */
const roomLookBytes = 1024 * 1024;

/** Passes on bytes while there is free space. */
export async function* whileRoom(
  room: StorageRoom,
  source: AsyncIterable<Buffer>,
): AsyncGenerator<Buffer, void, undefined> {
  let bytes = 0;
  for await (const piece of source) {
    bytes += piece.length;
    if (bytes >= roomLookBytes) {
      // If the database is away, the next row waits for it.
      await room.require().catch((error: unknown) => {
        if (error instanceof ServiceError) throw error;
      });
      bytes = 0;
    }
    yield piece;
  }
}
