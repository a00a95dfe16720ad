import { createHash } from "node:crypto";

/** A running SHA-256. */
export interface SourceHash {
  update(bytes: Buffer): unknown;
  digest(encoding: "hex"): string;
}

/** A running SHA-256 whose state can be saved, so that another one goes on. */
export interface ResumableHash extends SourceHash {
  save(): Uint8Array;
  /** @throws {Error} if another version of the package has saved the state */
  load(state: Uint8Array): unknown;
}

/** The fastest hash, whose state cannot be saved. */
export function nodeSourceHash(): SourceHash {
  return createHash("sha256");
}

/** A hash that can be saved; it takes five times as long. The package is large, and loaded when it is first needed. */
export async function resumableSourceHash(): Promise<ResumableHash> {
  const { createSHA256 } = await import("hash-wasm");
  return (await createSHA256()).init();
}
