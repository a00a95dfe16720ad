import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from "node:http";
import { brotliDecompressSync, gunzipSync } from "node:zlib";
import { schemaFile } from "../src/emit-schema.ts";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { connectRaw } from "./support/raw-http.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

interface PlainAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

describe("an answer", () => {
  let service: TestService;
  let ann: Credentials;
  let recordPath: string;
  let waveformPath: string;
  let privateWaveformPath: string;

  beforeAll(async () => {
    service = await startService({ INTROSPECTION: "false" });
    const client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
    const wav = sineWav({ seconds: 3, channels: 1, sampleRateHz: 8000 });
    const fields = "id url waveformUrl";
    const { record } = (await client.uploadRecord(ann, wav, { fields })).data.uploadRecord;
    recordPath = record.url.slice(service.url.length);
    waveformPath = record.waveformUrl.slice(service.url.length);
    const other = await client.uploadRecord(ann, wav, { fields, args: ", visibility: PRIVATE" });
    privateWaveformPath = other.data.uploadRecord.record.waveformUrl.slice(service.url.length);
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  /** Sends a request and does not decode the response. */
  async function send(
    path: string,
    headers: Record<string, string> = {},
    method = "GET",
    body = "",
  ): Promise<PlainAnswer> {
    const request = httpRequest(service.url + path, { method, headers });
    request.end(body);
    const [response] = (await once(request, "response")) as [IncomingMessage];
    const pieces: Buffer[] = [];
    for await (const piece of response) pieces.push(piece as Buffer);
    return { status: response.statusCode!, headers: response.headers, body: Buffer.concat(pieces) };
  }

  const query = async (text: string, headers: Record<string, string>): Promise<PlainAnswer> =>
    await send(
      "/graphql",
      { "content-type": "application/json", authorization: `Bearer ${ann.token}`, ...headers },
      "POST",
      JSON.stringify({ query: text }),
    );

  it.each([
    ["gzip", "gzip"],
    ["gzip, deflate", "gzip"],
    ["GZIP", "gzip"],
    ["br", "br"],
    ["br;q=0.5, gzip;q=0.8", "gzip"],
    ["br;q=0.8, gzip;q=0.5", "br"],
    ["*", "gzip"],
    ["gzip;q=0, *", "br"],
    ["gzip;q=0, br;q=0, *", undefined],
    ["gzip;q=0", undefined],
    ["gzip;q=0.5, identity", undefined],
    ["*;q=0", undefined],
    ["identity", undefined],
    ["deflate, zstd", undefined],
    ["", undefined],
    [undefined, undefined],
  ])("of more than 1 kB in JSON is compressed as far as the client wants it: %s", async (wanted, encoding) => {
    const headers: Record<string, string> = wanted === undefined ? {} : { "accept-encoding": wanted };
    for (const answer of [
      await query("{ me { records { nodes { peaks(count: 2000) } } } }", headers), // compressed as a stream
      await query("{ me { records { nodes { peaks(count: 300) } } } }", headers), // compressed in one piece
    ]) {
      expect(answer.status).toBe(200);
      expect(answer.headers["content-encoding"]).toBe(encoding);
      expect(answer.headers.vary).toMatch(/\bAccept-Encoding\b/i);
      expect(JSON.parse(decode(answer)).data.me.records.nodes.length).toBe(2);
    }
  });

  it("that is small is not compressed, but has Vary", async () => {
    const answer = await query("{ me { id } }", { "accept-encoding": "gzip" });
    expect(answer.headers["content-encoding"]).toBeUndefined();
    expect(answer.headers.vary).toMatch(/\bAccept-Encoding\b/i);
    expect(answer.headers["content-length"]).toBe(String(answer.body.length));
  });

  it("that is an MP3 is never compressed, nor is a part of one", async () => {
    const whole = await send(recordPath, { "accept-encoding": "gzip, br" });
    expect(whole.headers["content-encoding"]).toBeUndefined();
    expect(whole.headers["content-length"]).toBe(String(whole.body.length));
    expect(whole.headers.vary).toBeUndefined();
    for (const range of ["bytes=0-4999", "bytes=0-99,3000-3099"]) {
      const part = await send(recordPath, { "accept-encoding": "gzip, br", range });
      expect([part.status, part.headers["content-encoding"], part.headers["content-length"]]).toEqual([
        206,
        undefined,
        String(part.body.length),
      ]);
    }
  });

  it("has the same head for HEAD as for GET", async () => {
    for (const path of [waveformPath, "/schema.graphql", recordPath]) {
      for (const encoding of ["gzip", "br", "identity"]) {
        const [got, head] = await Promise.all(
          ["GET", "HEAD"].map(async (method) => await send(path, { "accept-encoding": encoding }, method)),
        );
        const stable = ({ date: _d, "x-request-id": _i, "transfer-encoding": _t, ...rest }: IncomingHttpHeaders) =>
          rest;
        expect([path, encoding, stable(head!.headers)]).toEqual([path, encoding, stable(got!.headers)]);
        expect(head!.body.length).toBe(0);
      }
    }
  });

  it("with a waveform or the schema has a different strong tag for each encoding, and is not sent to clients that have it", async () => {
    for (const path of [waveformPath, "/schema.graphql"]) {
      const tags = new Set<string>();
      for (const encoding of ["identity", "gzip", "br"]) {
        const first = await send(path, { "accept-encoding": encoding });
        const { etag, vary, "cache-control": cacheControl } = first.headers;
        expect(first.status).toBe(200);
        expect(etag).toMatch(/^"[^"]+"$/);
        tags.add(etag!);
        for (const known of [etag!, `W/${etag}`, `"other", ${etag}`]) {
          const again = await send(path, { "accept-encoding": encoding, "if-none-match": known });
          expect([again.status, again.body.length]).toEqual([304, 0]);
          expect(again.headers).toMatchObject({ etag, vary, "cache-control": cacheControl });
        }
        expect((await send(path, { "if-match": etag! })).status).toBe(200);
      }
      expect(tags.size).toBe(3);
      expect((await send(path, { "if-none-match": "*" })).status).toBe(304);
      expect((await send(path, { "if-none-match": '"other"' })).status).toBe(200);
      expect((await send(path, { "if-match": '"other"' })).status).toBe(412);
    }
  });

  it("with a waveform is cached like its recording: a private one is revalidated, and only its owner gets a 304", async () => {
    const open = await send(waveformPath);
    expect(open.headers["cache-control"]).toBe("private, max-age=31536000, immutable");
    const since = { "if-modified-since": open.headers["last-modified"]! };
    expect((await send(waveformPath, since)).status).toBe(304);
    const authorization = `Bearer ${ann.token}`;
    const own = await send(privateWaveformPath, { authorization });
    expect(own.headers["cache-control"]).toBe("private, no-cache");
    expect(own.headers.vary).toBe("Authorization, accept-encoding");
    const condition = { "if-none-match": own.headers.etag! };
    const again = await send(privateWaveformPath, { authorization, ...condition });
    expect([again.status, again.headers.vary]).toEqual([304, "Authorization, accept-encoding"]);
    const stranger = await send(privateWaveformPath, condition);
    expect([stranger.status, stranger.headers.etag]).toEqual([404, undefined]);
  });

  it("contains the schema, for any page, if introspection is refused with its address", async () => {
    const answer = await send("/schema.graphql");
    expect(answer.headers["content-type"]).toBe("text/plain; charset=utf-8");
    expect(answer.headers["access-control-allow-origin"]).toBe("*");
    expect(answer.body.toString()).toBe(await readFile(schemaFile, "utf8"));
    const refusal = await query("{ __schema { queryType { name } } }", {});
    const [error] = JSON.parse(refusal.body.toString()).errors;
    expect([refusal.status, error.extensions.code]).toEqual([400, "GRAPHQL_VALIDATION_FAILED"]);
    expect(error.message).toBe("Introspection is off. The schema is at /schema.graphql.");
  });

  it("whose client disconnects while it is compressed does not harm the service", async () => {
    const { port } = new URL(service.url);
    for (let times = 0; times < 20; times++) {
      using connection = await connectRaw(Number(port));
      await connection.send("GET /schema.graphql HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br\r\n\r\n");
      connection.reset();
    }
    expect((await send("/schema.graphql", { "accept-encoding": "br" })).status).toBe(200);
  });
});

function decode({ headers, body }: PlainAnswer): string {
  const decoders = { gzip: gunzipSync, br: brotliDecompressSync, identity: (bytes: Buffer) => bytes };
  return decoders[(headers["content-encoding"] ?? "identity") as keyof typeof decoders](body).toString();
}
