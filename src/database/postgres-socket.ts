import { Socket } from "node:net";

/** What is not read to a place of its own is read to this one and copied: all of a connection's small talk. */
const smallTalk = Buffer.allocUnsafeSlow(64 * 1024);

/**
 * The socket of a connection to PostgreSQL, for the `stream` option of node-postgres. It can read large values straight
 * to where they shall be, which spares a buffer, and its garbage, for every 64 KiB.
 */
export class PostgresSocket extends Socket {
  /**
   * Tells where the next bytes are to be read to; undefined: anywhere. Asked after each read, so what comes first after it
   * was set still comes elsewhere. While it is set, the memory of a `data` event is used again by the next read.
   */
  destination: (() => Buffer | undefined) | undefined;

  constructor() {
    super({
      onread: {
        buffer: () => this.destination?.() ?? smallTalk,
        callback: (length, buffer) => {
          const bytes = Buffer.from(buffer.buffer, buffer.byteOffset, length);
          this.emit("data", this.destination === undefined ? Buffer.from(bytes) : bytes);
          return true;
        },
      },
    });
  }
}
