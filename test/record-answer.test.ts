import { describe, expect, it } from "@jest/globals";
import type { ByteInterval } from "../src/http/byte-range.ts";
import { byteLengthOf } from "../src/http/multipart-byteranges.ts";
import type { LinkedRecord, RecordAnswer } from "../src/link/record-answer.ts";
import { answerOtherMethod, answerRecord, readBody } from "../src/link/record-answer.ts";

const mp3 = Buffer.from(Array.from({ length: 5_000 }, (_, index) => index % 251));
const record: LinkedRecord = {
  id: "0d9ad2b4-6e6f-4f6a-9f0b-0c2f4a3f8f11",
  gainSteps: 0,
  sizeBytes: mp3.length,
  lastModified: new Date("2026-11-06T08:49:37.654Z"),
  fileName: "my song.mp3",
  inline: false,
  cacheControl: "private, max-age=60",
};
const etag = answerRecord("HEAD", {}, record).headers["etag"]!;

async function* read({ start, end }: ByteInterval): AsyncGenerator<Buffer> {
  yield mp3.subarray(start, end + 1);
}

async function bytesOf(answer: RecordAnswer): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of readBody(answer.body, 0, read)) pieces.push(piece);
  return Buffer.concat(pieces);
}

it("sends the whole file with every header that a player, a cache or a page uses", async () => {
  const answer = answerRecord("GET", {}, record);
  expect(answer.status).toBe(200);
  expect(answer.headers).toEqual({
    "accept-ranges": "bytes",
    "access-control-allow-origin": "*",
    "access-control-expose-headers":
      "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag, Retry-After, X-Request-Id",
    "cache-control": "private, max-age=60",
    "content-disposition": 'attachment; filename="my song.mp3"',
    "content-length": "5000",
    "content-type": "audio/mpeg",
    "cross-origin-resource-policy": "cross-origin",
    etag,
    "last-modified": "Fri, 06 Nov 2026 08:49:37 GMT",
    "x-content-type-options": "nosniff",
  });
  expect((await bytesOf(answer)).equals(mp3)).toBe(true);
});

it.each([{}, { range: "bytes=0-1" }, { "if-none-match": etag }, { "if-match": '"x"' }])(
  "answers HEAD with the headers of GET without a range, and without a body: %p",
  (headers) => {
    const { range: _range, ...conditions } = headers as { range?: string };
    const head = answerRecord("HEAD", headers, record);
    expect(head).toEqual({ ...answerRecord("GET", conditions, record), body: [] });
  },
);

it("plays in the page, and is cached, as configured", () => {
  const { headers } = answerRecord("GET", {}, { ...record, inline: true, cacheControl: "public, s-maxage=60" });
  expect(headers).toMatchObject({
    "content-disposition": 'inline; filename="my song.mp3"',
    "cache-control": "public, s-maxage=60",
  });
});

describe("a single range", () => {
  it.each([
    ["bytes=0-0", 0, 0],
    ["bytes=0-1", 0, 1],
    ["bytes=4990-", 4_990, 4_999],
    ["bytes=-10", 4_990, 4_999],
    ["bytes=4990-9999999", 4_990, 4_999],
    ["bytes=0-", 0, 4_999],
    ["bytes=0-9,5-19", 0, 19],
  ])("%s is answered with 206", async (range, start, end) => {
    const answer = answerRecord("GET", { range }, record);
    expect(answer.status).toBe(206);
    expect(answer.headers).toMatchObject({
      "content-range": `bytes ${start}-${end}/5000`,
      "content-length": String(end - start + 1),
      "content-type": "audio/mpeg",
      etag,
    });
    expect((await bytesOf(answer)).equals(mp3.subarray(start, end + 1))).toBe(true);
  });

  it("outside the file is answered with 416 and the size", () => {
    const answer = answerRecord("GET", { range: "bytes=5000-" }, record);
    expect(answer).toMatchObject({ status: 416, body: [] });
    expect(answer.headers).toMatchObject({ "content-range": "bytes */5000", "cache-control": "no-store" });
  });

  it.each(["bytes=5-4", "bytes=x", "seconds=0-1"])("that is malformed is ignored: %s", (range) => {
    expect(answerRecord("GET", { range }, record).status).toBe(200);
  });

  it.each([
    [etag, 206],
    ["Fri, 06 Nov 2026 08:49:37 GMT", 206],
    [`W/${etag}`, 200],
    ['"older"', 200],
    ["Fri, 06 Nov 2026 08:49:38 GMT", 200],
  ])("beside If-Range: %s is answered with %i", (ifRange, status) => {
    expect(answerRecord("GET", { range: "bytes=0-1", "if-range": ifRange }, record).status).toBe(status);
  });

  it("outside the file is ignored like any other if If-Range does not match", () => {
    expect(answerRecord("GET", { range: "bytes=5000-", "if-range": '"older"' }, record).status).toBe(200);
  });

  it("is ignored if a condition applies", () => {
    expect(answerRecord("GET", { range: "bytes=5000-", "if-none-match": etag }, record).status).toBe(304);
    expect(answerRecord("GET", { range: "bytes=0-1", "if-match": '"x"' }, record).status).toBe(412);
  });
});

describe("several ranges", () => {
  it("are the parts of one body, in their order", async () => {
    const answer = answerRecord("GET", { range: "bytes=3000-3009,0-4,-5" }, record);
    expect(answer.status).toBe(206);
    expect(answer.headers["content-range"]).toBeUndefined();
    const boundary = /^multipart\/byteranges; boundary=([0-9a-f-]{36})$/.exec(
      answer.headers["content-type"] ?? "",
    )?.[1];
    const body = await bytesOf(answer);
    expect(answer.headers["content-length"]).toBe(String(body.length));
    const part = (start: number, end: number): string =>
      `\r\n--${boundary}\r\nContent-Type: audio/mpeg\r\nContent-Range: bytes ${start}-${end}/5000\r\n\r\n` +
      mp3.toString("latin1", start, end + 1);
    expect(body.toString("latin1")).toBe(
      `${part(3_000, 3_009)}${part(0, 4)}${part(4_995, 4_999)}\r\n--${boundary}--\r\n`,
    );
  });

  it("never make a response longer than the file", () => {
    for (const count of [2, 10, 20, 32, 1_000]) {
      for (const length of [1, 100, 1_000, 5_000]) {
        const specs = Array.from({ length: count }, (_, index) => `${index * 250}-${index * 250 + length - 1}`);
        const answer = answerRecord("GET", { range: `bytes=${specs.join()}` }, record);
        expect(byteLengthOf(answer.body)).toBeLessThanOrEqual(mp3.length);
        expect(answer.headers["content-length"]).toBe(String(byteLengthOf(answer.body)));
      }
    }
  });
});

describe("a condition", () => {
  it("that matches is answered with 304, the validators, the current name and nothing else about the body", () => {
    for (const headers of [
      { "if-none-match": `W/${etag}` },
      { "if-modified-since": "Fri, 06 Nov 2026 08:49:37 GMT" },
    ]) {
      const answer = answerRecord("GET", headers, record);
      expect(answer).toMatchObject({ status: 304, body: [] });
      expect(answer.headers).toMatchObject({ etag, "cache-control": record.cacheControl });
      expect(Object.keys(answer.headers).filter((name) => name.startsWith("content-"))).toEqual([
        "content-disposition",
      ]);
    }
  });

  it("that fails is answered with 412, which no cache keeps", () => {
    const answer = answerRecord("GET", { "if-unmodified-since": "Fri, 06 Nov 2026 08:49:36 GMT" }, record);
    expect(answer).toMatchObject({ status: 412, body: [] });
    expect(answer.headers).toMatchObject({ "cache-control": "no-store", "content-length": "0" });
  });
});

describe("a method", () => {
  it("other than GET, HEAD and OPTIONS is refused with those that are allowed", () => {
    expect(answerOtherMethod("GET")).toBeUndefined();
    expect(answerOtherMethod("HEAD")).toBeUndefined();
    for (const method of ["POST", "PUT", "DELETE", "PATCH", "get"]) {
      expect(answerOtherMethod(method)).toMatchObject({ status: 405, headers: { allow: "GET, HEAD, OPTIONS" } });
    }
  });

  it("OPTIONS allows any page to ask for ranges", () => {
    const answer = answerOtherMethod("OPTIONS");
    expect(answer).toMatchObject({ status: 204, headers: { "access-control-allow-origin": "*" }, body: [] });
    expect(answer?.headers["access-control-allow-headers"]).toContain("Range");
    expect(answer?.headers["access-control-allow-methods"]).toBe("GET, HEAD, OPTIONS");
  });
});
