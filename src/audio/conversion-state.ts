import { deserialize, serialize } from "node:v8";
import { deflateRawSync, inflateRawSync } from "node:zlib";

/**
 * Of the state's shape. To be increased when a stored state can no longer be read as the types say. A compressed state has a version
 * of its own; earlier releases stored no compressed ones.
 */
const version = 2;
const compressedVersion = 3;

/** Size of a stored state, in bytes, at most: many times what a conversion has. A compressed one that becomes larger is damaged. */
const maxStateBytes = 64 * 1024 * 1024;

/** The state of a conversion was stored by a release that this one cannot follow, or is followed by. */
export class UnknownStateError extends Error {}

/**
 * A state as bytes, which does not change when the state does. The format is that of `node:v8`: it is stable, newer
 * releases of Node.js read what older ones wrote, and it knows Buffers, typed arrays, Maps, Sets and Infinity.
 */
export function encodeState(state: object): Buffer {
  return Buffer.concat([Buffer.of(version), serialize(state)]);
}

/** A state as few bytes, to be stored. */
export function compressState(state: object): Buffer {
  return Buffer.concat([Buffer.of(compressedVersion), deflateRawSync(serialize(state), { level: 1 })]);
}

/**
 * @returns what {@link encodeState} or {@link compressState} got; only bytes that it made may be given
 * @throws {UnknownStateError} if they were made by another version, or are damaged
 */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- the bytes know their type, which only the caller can name
export function decodeState<T>(bytes: Buffer): T {
  const isCompressed = bytes[0] === compressedVersion;
  if (!isCompressed && bytes[0] !== version) throw new UnknownStateError(`The state has version ${bytes[0]}.`);
  try {
    const state = bytes.subarray(1);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as above
    return deserialize(isCompressed ? inflateRawSync(state, { maxOutputLength: maxStateBytes }) : state) as T;
  } catch (cause) {
    throw new UnknownStateError("The state cannot be read.", { cause });
  }
}
