import { describe, expect, it } from "@jest/globals";
import type { FileUpload } from "graphql-upload-minimal";
import { getEventListeners } from "node:events";
import { setTimeout } from "node:timers/promises";
import { openIncomingFile } from "../src/upload/incoming-file.ts";
import { startMultipartServer, type MultipartServerOptions } from "./support/multipart-server.ts";
import { connectRaw, exchange, fieldPart, filePart, multipartBody, rawPost } from "./support/raw-http.ts";

const operations = fieldPart("operations", '{"query":"q","variables":{"file":null}}');
const map = fieldPart("map", '{"0":["variables.file"]}');

function uploadOf(content: Buffer, fileName = "a.wav"): Buffer {
  return multipartBody(operations, map, filePart("0", fileName, content));
}

/** The beginning of an upload, including the first `length` bytes of its file. */
function beginningOf(body: Buffer, length: number): Buffer {
  return body.subarray(0, body.indexOf("audio/wav\r\n\r\n") + "audio/wav\r\n\r\n".length + length);
}

async function byteLengthOf(upload: Promise<FileUpload>): Promise<number> {
  using file = await openIncomingFile(upload);
  let byteLength = 0;
  for await (const chunk of file.bytes()) byteLength += chunk.length;
  return byteLength;
}

async function nameOf(upload: Promise<FileUpload>): Promise<string> {
  using file = await openIncomingFile(upload);
  return file.fileName;
}

async function halfRead(upload: Promise<FileUpload>): Promise<boolean> {
  using file = await openIncomingFile(upload);
  for await (const chunk of file.bytes()) return chunk.length > 0;
  return false;
}

async function openTwice(upload: Promise<FileUpload>): Promise<void> {
  using first = await openIncomingFile(upload);
  using second = await openIncomingFile(upload);
  void [first, second];
}

async function answerTo(resolve: NonNullable<MultipartServerOptions["resolve"]>, content: Buffer, name?: string) {
  await using server = await startMultipartServer({ resolve });
  const answer = await exchange(server.port, rawPost(uploadOf(content, name)));
  return JSON.parse(answer?.body ?? "null");
}

describe("an incoming file", () => {
  it("yields its bytes while they arrive", async () => {
    const firstSeen = Promise.withResolvers<void>();
    await using server = await startMultipartServer({
      resolve: async (upload) => {
        using file = await openIncomingFile(upload);
        let byteLength = 0;
        for await (const chunk of file.bytes()) {
          byteLength += chunk.length;
          firstSeen.resolve();
        }
        return byteLength;
      },
    });
    const body = uploadOf(Buffer.alloc(20_000));
    using connection = await connectRaw(server.port);
    const head = rawPost(Buffer.alloc(0), { "content-length": String(body.length) });
    await connection.send(Buffer.concat([head, beginningOf(body, 5000)]));
    await firstSeen.promise;
    await connection.send(body.subarray(beginningOf(body, 5000).length));
    expect(JSON.parse((await connection.answer())?.body ?? "")).toEqual({ data: 20_000 });
  });

  it("does not read the body while it is not consumed, which is not a stall", async () => {
    const mayRead = Promise.withResolvers<void>();
    await using server = await startMultipartServer({
      // Long enough for the client, which shares this busy process, to send the next bytes.
      limits: { maxFileBytes: 100_000_000, stallSeconds: 4 },
      resolve: async (upload) => {
        await mayRead.promise;
        return await byteLengthOf(upload);
      },
    });
    const content = Buffer.alloc(40_000_000);
    using connection = await connectRaw(server.port);
    const { socket } = connection;
    const request = rawPost(uploadOf(content));
    for (let at = 0; at < request.length; at += 65_536) void connection.send(request.subarray(at, at + 65_536));
    // The operating system buffers a few MB; after that, nothing more can be sent.
    for (let left = -1; left !== socket.writableLength;) {
      left = socket.writableLength;
      await setTimeout(100);
    }
    expect(socket.writableLength).toBeGreaterThan(content.length / 2);
    await setTimeout(5000);
    mayRead.resolve();
    expect(JSON.parse((await connection.answer())?.body ?? "")).toEqual({ data: content.length });
  });

  it("fails when no byte comes for too long, and the connection is closed", async () => {
    await using server = await startMultipartServer({ limits: { stallSeconds: 0.05 } });
    const body = uploadOf(Buffer.alloc(1000));
    using connection = await connectRaw(server.port);
    const head = rawPost(Buffer.alloc(0), { "content-length": String(body.length) });
    await connection.send(Buffer.concat([head, beginningOf(body, 500)]));
    const answer = await connection.answer();
    expect(answer?.status).toBe(408);
    expect(JSON.parse(answer?.body ?? "")).toMatchObject({ code: "UPLOAD_STALLED" });
    await connection.ended();
  });

  it("fails when the last boundary does not come", async () => {
    await using server = await startMultipartServer({ limits: { stallSeconds: 0.05 } });
    const body = uploadOf(Buffer.alloc(300_000));
    using connection = await connectRaw(server.port);
    const request = rawPost(body);
    await connection.send(request.subarray(0, request.length - 4));
    expect((await connection.answer())?.status).toBe(408);
  });

  it("can be abandoned before it is read, and half-way", async () => {
    const content = Buffer.alloc(900_000);
    expect(await answerTo(nameOf, content)).toEqual({ data: "a.wav" });
    expect(await answerTo(halfRead, content)).toEqual({ data: true });
  });

  it("fails for a reader that still reads it after the response", async () => {
    const failed = Promise.withResolvers<unknown>();
    await using server = await startMultipartServer({
      resolve: async (upload) => {
        byteLengthOf(upload).catch(failed.resolve);
        return "early";
      },
    });
    const body = uploadOf(Buffer.alloc(1000));
    using connection = await connectRaw(server.port);
    const head = rawPost(Buffer.alloc(0), { "content-length": String(body.length) });
    await connection.send(Buffer.concat([head, beginningOf(body, 500)]));
    expect((await connection.answer())?.status).toBe(200);
    expect(await failed.promise).toMatchObject({ code: "CLIENT_CLOSED_REQUEST" });
  });

  it("can be used only once", async () => {
    expect(await answerTo(openTwice, Buffer.alloc(10))).toMatchObject({ code: "BAD_REQUEST" });
  });

  it("has a name that can be stored", async () => {
    expect(await answerTo(nameOf, Buffer.of(1), `${"🎵".repeat(300)}.wav`)).toEqual({ data: "🎵".repeat(255) });
    const escaped = {
      head: `Content-Disposition: form-data; name="0"; filename*=UTF-8''a%00%0d%0a%22%7f.wav`,
      content: "x",
    };
    await using server = await startMultipartServer({ resolve: nameOf });
    const answer = await exchange(server.port, rawPost(multipartBody(operations, map, escaped)));
    expect(JSON.parse(answer?.body ?? "")).toEqual({ data: 'a ".wav' });
  });

  it("leaves no listener on its signal, whether or not the file arrives", async () => {
    const { signal } = new AbortController();
    const answer = await answerTo(async (upload) => {
      await expect(openIncomingFile(Promise.reject(new Error("No file.")), signal)).rejects.toThrow("No file.");
      const afterFailure = getEventListeners(signal, "abort").length;
      const file = await openIncomingFile(upload, signal);
      const whileOpen = getEventListeners(signal, "abort").length;
      file[Symbol.dispose]();
      return [afterFailure, whileOpen, getEventListeners(signal, "abort").length];
    }, Buffer.alloc(10));
    expect(answer).toEqual({ data: [0, 1, 0] });
  });
});
