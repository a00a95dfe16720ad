import { Socket } from "node:net";

/** Buffer for all bytes without a destination of their own, such as short messages. They are copied from here. */
const smallTalk = Buffer.allocUnsafeSlow(64 * 1024);

/**
 * The socket of a connection to PostgreSQL, for the `stream` option of node-postgres. It can read large values directly
 * to their destination, which saves a buffer, and its garbage, for every 64 KiB.
 */
export class PostgresSocket extends Socket {
  /**
   * Returns the destination of the next bytes, or undefined for any. It is called after each read, so the first bytes
   * after it was set still arrive elsewhere. While it is set, the next read reuses the memory of a `data` event.
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
