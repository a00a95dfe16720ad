import { describe, expect, it } from "@jest/globals";
import { once } from "node:events";
import { setImmediate } from "node:timers/promises";
import { MultipartFile } from "../src/graphql/multipart-file.ts";

describe("a file in pieces of one byte", () => {
  it("waits for its reader in few pieces, in order, and goes on when it is read", async () => {
    let wanted = 0;
    const file = new MultipartFile(
      1_000_000,
      () => (wanted += 1),
      () => {},
    );
    file.begin(
      {
        name: "0",
        fileName: "a.wav",
        type: "audio/wav",
        charset: undefined,
        transferEncoding: "",
        contentEncoding: "",
      },
      "0",
    );
    const upload = await file.upload.promise;
    const content = Buffer.from(Array.from({ length: 150_000 }, (_, i) => (i * 31 + (i >> 8) * 7) & 255));
    const addUntilFull = async (): Promise<void> => {
      while (!file.isFull && file.receivedBytes < content.length) {
        file.take(content.subarray(file.receivedBytes, file.receivedBytes + 1));
        if (file.receivedBytes % 1000 === 0) await setImmediate();
      }
    };
    await addUntilFull();
    expect(file.receivedBytes).toBe(64 * 1024);
    const pieces: Buffer[] = [];
    const stream = upload.createReadStream();
    stream.on("data", (piece) => pieces.push(Buffer.from(piece)));
    wanted = 0;
    while (file.receivedBytes < content.length) {
      stream.resume();
      while (file.isFull) await setImmediate();
      expect(wanted).toBeGreaterThan(0);
      stream.pause();
      await addUntilFull();
    }
    file.finish();
    stream.resume();
    await once(stream, "end");
    expect(Buffer.concat(pieces).equals(content)).toBe(true);
    expect(pieces.length).toBeLessThan(20);
  });
});
