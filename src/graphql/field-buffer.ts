import { ServiceError } from "../errors/errors.ts";
import type { HeldBytes } from "../memory/unvouched-bytes.ts";

/** Collects the bytes of one field of a multipart body. Bytes that arrive one by one cost no more than others. */
export class FieldBuffer {
  readonly #memory: HeldBytes | undefined;
  #buffer = Buffer.alloc(0);
  #length = 0;

  /** @param memory counts what the buffer holds */
  constructor(memory: HeldBytes | undefined) {
    this.#memory = memory;
  }

  /** @throws {ServiceError} BAD_REQUEST with `maxBytes` if the field is larger than that */
  take(bytes: Buffer, name: string, maxBytes: number): void {
    const needed = this.#length + bytes.length;
    if (needed > maxBytes) {
      const message = `The field \`${name}\` has more than ${maxBytes} bytes. Only the file may be larger.`;
      throw new ServiceError("BAD_REQUEST", message, { maxBytes });
    }
    if (needed > this.#buffer.length) {
      const larger = Buffer.allocUnsafeSlow(Math.min(maxBytes, Math.max(2 * this.#buffer.length, needed)));
      this.#buffer.copy(larger, 0, 0, this.#length);
      this.#memory?.add(larger.length - this.#buffer.length);
      this.#buffer = larger;
    }
    this.#length += bytes.copy(this.#buffer, this.#length);
  }

  /** Returns the field's bytes, and is empty for the next field. */
  end(): Buffer {
    const field = this.#buffer.subarray(0, this.#length);
    this.#buffer = Buffer.alloc(0);
    this.#length = 0;
    return field;
  }
}
