import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { GraphQLNonNull, GraphQLObjectType, GraphQLSchema, GraphQLString, graphql } from "graphql";
import { GraphQLUpload, type FileUpload } from "graphql-upload-minimal";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { Socket } from "node:net";
import { setImmediate, setTimeout } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { ServiceError } from "../src/errors/errors.ts";
import { readMultipartRequest } from "../src/graphql/multipart-request.ts";
import { openIncomingFile } from "../src/upload/incoming-file.ts";
import { startMultipartServer, testLimits, type MultipartServer } from "./support/multipart-server.ts";
import {
  boundary,
  connectRaw,
  exchange,
  fieldPart,
  filePart,
  httpChunk,
  multipartBody,
  rawPost,
  type RawAnswer,
  type RawPart,
} from "./support/raw-http.ts";

const operations = fieldPart("operations", '{"query":"mutation($file:Upload!){x}","variables":{"file":null}}');
const map = fieldPart("map", '{"0":["variables.file"]}');
const file = filePart("0", "tune.wav", "RIFF and so on\r\n--not the boundary");

function operationsWith(variables: string): RawPart {
  return fieldPart("operations", `{"query":"q","variables":${variables}}`);
}

function mapTo(...paths: string[]): RawPart {
  return fieldPart("map", JSON.stringify({ 0: paths }));
}

function summary(fileName: string, content: string | Buffer) {
  return {
    fileName,
    byteLength: Buffer.byteLength(content),
    sha256: createHash("sha256").update(content).digest("hex"),
  };
}

describe("a multipart request", () => {
  let server: MultipartServer;
  beforeAll(async () => {
    server = await startMultipartServer();
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
  });

  async function post(...parts: RawPart[]) {
    return await postBody(multipartBody(...parts));
  }

  async function postBody(body: Buffer, headers?: Record<string, string | undefined>) {
    const answer = await exchange(server.port, rawPost(body, headers));
    return { status: answer?.status, json: JSON.parse(answer?.body ?? "null") };
  }

  it("hands over the file byte for byte and keeps the connection", async () => {
    using connection = await connectRaw(server.port);
    for (const name of ["first.wav", "second.wav"]) {
      const part = filePart("0", name, file.content);
      await connection.send(rawPost(multipartBody(operations, map, part)));
      const answer = await connection.answer();
      expect(answer?.status).toBe(200);
      expect(answer?.headers.get("connection")).toBe("keep-alive");
      expect(JSON.parse(answer?.body ?? "")).toEqual({ data: summary(name, file.content) });
    }
  });

  it("may arrive in chunks of one byte", async () => {
    const body = multipartBody(operations, map, file);
    const chunks = Array.from(body, (byte) => httpChunk(Buffer.of(byte)));
    const head = rawPost(Buffer.alloc(0), { "content-length": undefined, "transfer-encoding": "chunked" });
    const answer = await exchange(server.port, Buffer.concat([head, ...chunks, httpChunk(Buffer.alloc(0))]));
    expect(JSON.parse(answer?.body ?? "")).toEqual({ data: summary("tune.wav", file.content) });
  });

  it.each(["at once", "slowly"])(
    "hands over what looks like boundaries, read %s, however it is cut",
    async (reading) => {
      await using reader = await startMultipartServer({
        resolve: async (upload) => {
          using incoming = await openIncomingFile(upload);
          const pieces: Buffer[] = [];
          for await (const piece of incoming.bytes()) {
            pieces.push(Buffer.from(piece));
            if (reading === "slowly") await setImmediate();
          }
          return summary(incoming.fileName, Buffer.concat(pieces));
        },
      });
      for (let seed = 1; seed <= 20; seed++) {
        const random = randomNumbers(seed);
        const delimiter = `\r\n--${boundary}`;
        const pieces = Array.from({ length: 400 }, () =>
          random(2) === 0
            ? delimiter.slice(0, random(delimiter.length))
            : "\r".repeat(random(3)) + "x".repeat(random(999)),
        );
        const content = pieces.join("").replaceAll(delimiter, "");
        const body = multipartBody(operations, map, filePart("0", "tune.wav", content));
        const chunks: Buffer[] = [];
        for (let at = 0; at < body.length;) {
          const size = 1 + random(random(2) === 0 ? 40 : 20_000);
          chunks.push(httpChunk(body.subarray(at, at + size)));
          at += size;
        }
        const head = rawPost(Buffer.alloc(0), { "content-length": undefined, "transfer-encoding": "chunked" });
        const answer = await exchange(reader.port, Buffer.concat([head, ...chunks, httpChunk(Buffer.alloc(0))]));
        expect([seed, JSON.parse(answer?.body ?? "")]).toEqual([seed, { data: summary("tune.wav", content) }]);
      }
    },
  );

  it("works with a reader that is slower than the client, wherever the client's chunks end", async () => {
    await using reader = await startMultipartServer({
      limits: { maxFileBytes: 20_000_000 },
      resolve: async (upload) => {
        using incoming = await openIncomingFile(upload);
        const pieces: Buffer[] = [];
        for await (const piece of incoming.bytes()) {
          pieces.push(Buffer.from(piece));
          await setTimeout(1);
        }
        return summary(incoming.fileName, Buffer.concat(pieces));
      },
    });
    // Every second chunk ends with bytes that could begin a boundary.
    const chunk = (index: number) => "x".repeat(60_000) + (index % 2 === 0 ? "\r\n--" : "");
    const chunks = Array.from({ length: 60 }, (_, index) => chunk(index));
    const content = chunks.join("");
    const body = multipartBody(operations, map, filePart("0", "tune.wav", content));
    const start = body.indexOf("xxx");
    const sent: Buffer[] = [httpChunk(body.subarray(0, start))];
    let at = start;
    for (const { length } of chunks) sent.push(httpChunk(body.subarray(at, (at += length))));
    sent.push(httpChunk(body.subarray(at)), httpChunk(Buffer.alloc(0)));
    const head = rawPost(Buffer.alloc(0), { "content-length": undefined, "transfer-encoding": "chunked" });
    const answer = await exchange(reader.port, Buffer.concat([head, ...sent]));
    expect(JSON.parse(answer?.body ?? "")).toEqual({ data: summary("tune.wav", content) });
  });

  it("may wait for 100 Continue", async () => {
    const body = multipartBody(operations, map, file);
    using connection = await connectRaw(server.port);
    const request = rawPost(body, { expect: "100-continue" });
    await connection.send(request.subarray(0, request.length - body.length));
    expect((await connection.answer())?.status).toBe(100);
    await connection.send(body);
    expect((await connection.answer())?.status).toBe(200);
  });

  it.each<[string, RawPart, string]>([
    ["a name in any script", filePart("0", "Übung 音楽 🎵.wav", "x"), "Übung 音楽 🎵.wav"],
    [
      "an RFC 8187 name",
      { head: `Content-Disposition: form-data; name="0"; filename*=UTF-8''%c3%9c.wav`, content: "x" },
      "Ü.wav",
    ],
    [
      "no file name but application/octet-stream",
      { head: 'Content-Disposition: form-data; name="0"\r\nContent-Type: application/octet-stream', content: "x" },
      "",
    ],
    [
      "an empty file name, as of an empty form",
      {
        head: 'Content-Disposition: form-data; name="0"; filename=""\r\nContent-Type: application/octet-stream',
        content: "x",
      },
      "",
    ],
    ["folders in the name", filePart("0", "../../etc/C:\\\\music\\\\a.wav", "x"), "a.wav"],
    ["no content type", { head: 'Content-Disposition: form-data; name="0"; filename="a.wav"', content: "x" }, "a.wav"],
  ])("takes a file with %s", async (_case, part, fileName) => {
    expect(await post(operations, map, part)).toEqual({ status: 200, json: { data: summary(fileName, "x") } });
  });

  it("takes an empty file", async () => {
    expect((await post(operations, map, filePart("0", "a.wav", ""))).json.data.byteLength).toBe(0);
  });

  it.each([
    `Multipart/Form-Data;boundary="${boundary}"`,
    `multipart/form-data; charset=UTF-8; boundary=${boundary}`,
    `multipart/form-data; boundary=${boundary}; charset=utf-8`,
  ])("takes the content type %s", async (contentType) => {
    const answer = await postBody(multipartBody(operations, map, file), { "content-type": contentType });
    expect(answer.status).toBe(200);
  });

  it("takes a preamble and an epilogue", async () => {
    const body = Buffer.concat([
      Buffer.from("before\r\n"),
      multipartBody(operations, map, file),
      Buffer.from("afterwards"),
    ]);
    expect((await postBody(body)).status).toBe(200);
  });

  describe("is refused as malformed", () => {
    const huge = "x".repeat(testLimits.maxOperationsBytes + 1);
    const deep = "[".repeat(65) + "]".repeat(65);
    const cases: [string, RawPart[]][] = [
      ["without parts", []],
      ["with map before operations", [map, operations, file]],
      ["with the file before operations", [file, operations, map]],
      ["with the file before map", [operations, file, map]],
      ["without operations", [map, file]],
      ["without map", [operations, file]],
      ["with operations only", [operations]],
      ["without the file", [operations, map]],
      ["with operations twice", [operations, operations, map, file]],
      ["with map twice", [operations, map, map, file]],
      ["with an unknown field first", [fieldPart("extra", "1"), operations, map, file]],
      ["with an unknown field between", [operations, map, fieldPart("extra", "1"), file]],
      ["with a field after the file", [operations, map, file, fieldPart("extra", "1")]],
      ["with a second file", [operations, map, file, filePart("1", "b.wav", "x")]],
      ["with the same file twice", [operations, map, file, file]],
      ["with a file that map does not name", [operations, map, filePart("1", "b.wav", "x")]],
      ["with a file without a name of its part", [operations, map, filePart("", "b.wav", "x")]],
      ["with a text in place of the file", [operations, map, fieldPart("0", "undefined")]],
      ["with operations that are not JSON", [fieldPart("operations", "{"), map, file]],
      ["with empty operations", [fieldPart("operations", ""), map, file]],
      ["with operations null", [fieldPart("operations", "null"), map, file]],
      ["with operations a string", [fieldPart("operations", '"query"'), map, file]],
      [
        "with a batch",
        [fieldPart("operations", `[${operations.content.toString()}]`), mapTo("0.variables.file"), file],
      ],
      [
        "with a query that is no string",
        [fieldPart("operations", '{"query":[],"variables":{"file":null}}'), map, file],
      ],
      ["with an operation name that is none", [fieldPart("operations", '{"operationName":{}}'), map, file]],
      ["with variables in a list", [fieldPart("operations", '{"query":"q","variables":[null]}'), map, file]],
      ["with extensions that are no object", [fieldPart("operations", '{"extensions":1}'), map, file]],
      ["with operations over their limit", [operationsWith(`{"file":null,"x":"${huge}"}`), map, file]],
      ["with operations nested too deeply", [operationsWith(`{"file":null,"x":${deep}}`), map, file]],
      ["with too many values in operations", [operationsWith(`{"file":null,"x":[0${",0".repeat(990)}]}`), map, file]],
      [
        "with operations in an unknown charset",
        [
          {
            head: 'Content-Disposition: form-data; name="operations"\r\nContent-Type: text/plain; charset=x',
            content: "{}",
          },
          map,
          file,
        ],
      ],
      ["with a map that is not JSON", [operations, fieldPart("map", "{0}"), file]],
      ["with a map in a list", [operations, fieldPart("map", '[["variables.file"]]'), file]],
      ["with an empty map", [operations, fieldPart("map", "{}"), file]],
      ["with a map of two files", [operations, fieldPart("map", '{"0":["variables.file"],"1":["variables.b"]}'), file]],
      ["with a map over its limit", [operations, fieldPart("map", `{"0":["variables.${huge}"]}`), file]],
      ["with a path that is no list", [operations, fieldPart("map", '{"0":"variables.file"}'), file]],
      ["with a path that is no string", [operations, fieldPart("map", '{"0":[1]}'), file]],
      ["without paths", [operations, mapTo(), file]],
      [
        "with one file for two paths",
        [operationsWith('{"a":null,"b":null}'), mapTo("variables.a", "variables.b"), file],
      ],
      ["with the same path twice", [operations, mapTo("variables.file", "variables.file"), file]],
      ["with a path to nowhere", [operations, mapTo("variables.other"), file]],
      ["with a path through null", [operations, mapTo("variables.file.x"), file]],
      ["with a path to a string", [operationsWith('{"file":"text"}'), map, file]],
      ["with a path to an object", [operationsWith('{"file":{}}'), map, file]],
      ["with a path beyond a list", [operationsWith('{"file":[null]}'), mapTo("variables.file.1"), file]],
      ["with a path to a list's length", [operationsWith('{"file":[null]}'), mapTo("variables.file.length"), file]],
      ["with a path out of variables", [operations, mapTo("query"), file]],
      ["with the path variables", [operations, mapTo("variables"), file]],
      ["with an empty path", [operations, mapTo(""), file]],
      ["without variables", [fieldPart("operations", '{"query":"q"}'), map, file]],
      ...[
        "__proto__.polluted",
        "constructor.prototype.polluted",
        "hasOwnProperty.call",
        "variables.__proto__",
        "variables.__proto__.polluted",
        "variables.constructor.prototype.polluted",
        "variables.hasOwnProperty.call",
        "variables.toString",
        "variables.file.__proto__",
      ].map((path): [string, RawPart[]] => [`with the path ${path}`, [operations, mapTo(path), file]]),
      [
        "with a control character in a header",
        [{ head: 'Content-Disposition: form-data; name="\u0001"', content: "" }],
      ],
      ["with a header without a colon", [{ head: "Content-Disposition", content: "" }]],
      ["with a header over 16 kB", [{ head: `X-Long: ${"x".repeat(17_000)}`, content: "" }]],
      ["with a malformed header after the file", [operations, map, file, { head: "\u0001", content: "" }]],
      ["with a malformed header in every part", Array.from({ length: 50 }, () => ({ head: "\u0001", content: "" }))],
    ];
    it.each(cases)("%s", async (_case, parts) => {
      const { status, json } = await post(...parts);
      expect(json).toMatchObject({ code: "BAD_REQUEST", message: expect.stringMatching(/^\S.*\.$/) });
      expect(status).toBe(400);
    });

    it.each([
      ["a letter", "x"],
      ["a space", " "],
      ["one dash", "-x"],
      ["a CR alone", "\rx"],
    ])("with %s behind a boundary in the file, which is not cut short there", async (_case, end) => {
      const content = `RIFF\r\n--${boundary}${end}\r\nmore\r\n\r\nand more`;
      expect((await post(operations, map, filePart("0", "a.wav", content))).json.code).toBe("BAD_REQUEST");
    });

    it.each([
      ["without a disposition", "X-Other: 1"],
      ["of another disposition", 'Content-Disposition: attachment; name="operations"'],
    ])("with a further part %s", async (_case, head) => {
      const further = { head, content: "x" };
      for (const parts of [
        [further, operations, map, file],
        [operations, map, further, file],
        [operations, map, file, further],
      ]) {
        expect((await post(...parts)).json.code).toBe("BAD_REQUEST");
      }
    });

    it.each<[string, string | undefined]>([
      ["without a content type", undefined],
      ["without a boundary", "multipart/form-data"],
      ["with an empty boundary", 'multipart/form-data; boundary=""'],
      ["with a boundary over 70 characters", `multipart/form-data; boundary=${"x".repeat(71)}`],
      ["with two boundaries", `multipart/form-data; boundary=${boundary}; boundary=other`],
      ["as another multipart type", `multipart/mixed; boundary=${boundary}`],
      ["as an HTML form", "application/x-www-form-urlencoded"],
      ["with another boundary", "multipart/form-data; boundary=other"],
    ])("%s", async (_case, contentType) => {
      const { status, json } = await postBody(multipartBody(operations, map, file), { "content-type": contentType });
      expect({ status, code: json.code }).toEqual({ status: 400, code: "BAD_REQUEST" });
    });

    it("with an empty body", async () => {
      expect((await postBody(Buffer.alloc(0))).json.code).toBe("BAD_REQUEST");
    });

    it.each<[string, Buffer]>([
      ["in front of the parts", Buffer.concat([Buffer.alloc(200_000, "x"), multipartBody(operations, map, file)])],
      ["behind the parts", Buffer.concat([multipartBody(operations, map, file), Buffer.alloc(200_000, "x")])],
      [
        "in a part that has no disposition",
        multipartBody({ head: "X-Other: 1", content: Buffer.alloc(200_000) }, operations, map, file),
      ],
    ])("with too much %s", async (_case, body) => {
      expect((await postBody(body)).json.code).toBe("BAD_REQUEST");
    });
  });

  it("does not change built-in objects, whatever the path", async () => {
    const before = Object.getOwnPropertyNames(Object.prototype);
    const hostile = operationsWith('{"__proto__":{"polluted":null},"constructor":{"prototype":{"polluted":null}}}');
    await post(hostile, mapTo("variables.__proto__.polluted"), file);
    await post(hostile, mapTo("variables.constructor.prototype.polluted"), file);
    await post(operationsWith('{"__proto__":null}'), mapTo("variables.__proto__"), file);
    expect(Object.getOwnPropertyNames(Object.prototype)).toEqual(before);
    expect(Reflect.get({}, "polluted")).toBeUndefined();
    expect(typeof Object.prototype.hasOwnProperty.call).toBe("function");
  });

  it("is refused with a code wherever its body ends", async () => {
    const parts = [operations, map, file];
    const body = multipartBody(...parts);
    const fileStart = body.indexOf(file.content.toString());
    const lastDash = body.length - 2;
    using connection = await connectRaw(server.port);
    for (let length = 0; length < lastDash; length++) {
      void connection.send(rawPost(body.subarray(0, length)));
      const answer = await connection.answer();
      const code = length < fileStart ? "BAD_REQUEST" : "UPLOAD_INCOMPLETE";
      expect({ length, body: JSON.parse(answer?.body ?? "null") }).toMatchObject({ length, body: { code } });
    }
  });

  it.each([
    ["ends", (socket: Socket) => socket.end()],
    ["resets", (socket: Socket) => socket.resetAndDestroy()],
  ])("fails at once when the client %s the connection, wherever", async (_case, leave) => {
    const body = multipartBody(operations, map, file);
    const head = rawPost(Buffer.alloc(0), { "content-length": String(body.length), expect: "100-continue" });
    for (let length = 0; length < body.length; length += 23) {
      const failure = server.nextFailure();
      using connection = await connectRaw(server.port);
      await connection.send(head);
      await connection.answer(); // 100 Continue: the reader has begun
      await connection.send(body.subarray(0, length));
      leave(connection.socket);
      await expect(failure).resolves.toMatchObject({ code: "CLIENT_CLOSED_REQUEST" });
    }
    expect((await post(operations, map, file)).status).toBe(200);
  });

  it("is refused without a preflight header, before its body is sent", async () => {
    for (const header of [undefined, ""]) {
      const request = rawPost(Buffer.alloc(0), { "apollo-require-preflight": header, "content-length": "900000" });
      const answer = await exchange(server.port, request);
      expect(answer?.status).toBe(400);
      expect(JSON.parse(answer?.body ?? "")).toMatchObject({ message: expect.stringContaining("require-preflight") });
    }
    const named = { "apollo-require-preflight": undefined, "x-apollo-operation-name": "Upload" };
    expect((await postBody(multipartBody(operations, map, file), named)).status).toBe(200);
  });

  it("is refused by its Content-Length, before its body is sent", async () => {
    const answer = await exchange(server.port, rawPost(Buffer.alloc(0), { "content-length": "2147483648" }));
    expect(answer?.status).toBe(413);
    expect(answer?.headers.get("connection")).toBe("close");
    expect(JSON.parse(answer?.body ?? "")).toMatchObject({ code: "UPLOAD_TOO_LARGE", maxBytes: 1_000_000 });
  });

  it("may hold a file of exactly the limit, and not one byte more", async () => {
    const most = Buffer.alloc(testLimits.maxFileBytes, 7);
    expect(await post(operations, map, filePart("0", "a.wav", most))).toEqual({
      status: 200,
      json: { data: summary("a.wav", most) },
    });
    const { status, json } = await post(operations, map, filePart("0", "a.wav", Buffer.concat([most, Buffer.of(7)])));
    expect(status).toBe(413);
    expect(json).toMatchObject({ code: "UPLOAD_TOO_LARGE", maxBytes: testLimits.maxFileBytes });
  });

  it("never brings the server down or leaves it hanging, however its bytes are changed", async () => {
    const count = Number(process.env["MULTIPART_FUZZ_CASES"] ?? 400);
    const seed = Number(process.env["MULTIPART_FUZZ_SEED"] ?? 1);
    await using impatient = await startMultipartServer({ limits: { stallSeconds: 0.1 } });
    const statuses = new Set<number>();
    const faults: string[] = [];
    const valid = multipartBody(operations, map, file);
    for (let i = 0; i < count; i++) {
      const random = randomNumbers(seed + i);
      const body = mutate(valid, random);
      // Sent whole, cut short by a Content-Length that is too large, or in chunks of random sizes.
      const kind = random(20);
      using connection = await connectRaw(impatient.port);
      if (kind === 0) {
        void connection.send(rawPost(body, { "content-length": String(body.length + 1) }));
      } else if (kind < 5) {
        const at = random(body.length);
        const chunks = [body.subarray(0, at), body.subarray(at)].filter((chunk) => chunk.length > 0).map(httpChunk);
        const head = rawPost(Buffer.alloc(0), { "content-length": undefined, "transfer-encoding": "chunked" });
        void connection.send(Buffer.concat([head, ...chunks, httpChunk(Buffer.alloc(0))]));
      } else {
        void connection.send(rawPost(body));
      }
      const answer = await connection.answer();
      statuses.add(answer?.status ?? 0);
      if (!answer || !(await isSoundAnswer(answer, body))) {
        faults.push(`seed ${seed + i}: ${answer?.status} ${answer?.body}`);
      }
    }
    expect(faults).toEqual([]);
    expect(Array.from(statuses)).toEqual(expect.arrayContaining([200, 400, 408, 422]));
  });
});

describe("reading a multipart request", () => {
  it("gives the Upload scalar its value, and the resolver its file", async () => {
    const schema = new GraphQLSchema({
      query: new GraphQLObjectType({ name: "Query", fields: { x: { type: GraphQLString } } }),
      mutation: new GraphQLObjectType({
        name: "Mutation",
        fields: {
          name: {
            type: GraphQLString,
            args: { file: { type: new GraphQLNonNull(GraphQLUpload) } },
            resolve: async (_root, args: { file: Promise<FileUpload> }) => (await args.file).filename,
          },
        },
      }),
    });
    await using server = await startMultipartServer({
      resolve: async (_file, { query = "", variables }) => {
        return await graphql({ schema, source: query, variableValues: variables });
      },
    });
    const query = "mutation($file: Upload!) { name(file: $file) }";
    const body = multipartBody(
      fieldPart("operations", JSON.stringify({ query, variables: { file: null } })),
      map,
      file,
    );
    const answer = await exchange(server.port, rawPost(body));
    expect(JSON.parse(answer?.body ?? "")).toEqual({ data: { data: { name: "tune.wav" } } });
  });

  it("can be refused as soon as operations have arrived", async () => {
    await using server = await startMultipartServer({
      authorize: async ({ variables }) => {
        if (variables?.["token"] !== "right") throw new ServiceError("UNAUTHENTICATED", "Wrong token.");
      },
    });
    async function sendFirstPart(token: string) {
      const body = multipartBody(operationsWith(`{"file":null,"token":"${token}"}`), map, file);
      const connection = await connectRaw(server.port);
      const request = rawPost(body);
      const rest = request.indexOf('\r\nContent-Disposition: form-data; name="map"');
      await connection.send(request.subarray(0, rest));
      return { connection, rest: request.subarray(rest) };
    }
    const wrong = await sendFirstPart("wrong");
    expect((await wrong.connection.answer())?.status).toBe(401);
    await wrong.connection.ended();
    wrong.connection[Symbol.dispose]();
    const right = await sendFirstPart("right");
    await right.connection.send(right.rest);
    expect((await right.connection.answer())?.status).toBe(200);
    right.connection[Symbol.dispose]();
  });

  it("can be refused after all of it has arrived", async () => {
    await using server = await startMultipartServer({
      authorize: async () => {
        await setTimeout(50);
        throw new ServiceError("UNAUTHENTICATED", "Wrong token.");
      },
    });
    expect((await exchange(server.port, rawPost(multipartBody(operations, map, file))))?.status).toBe(401);
  });

  it("starts the resolver of a request that was authorized before the file's part has arrived", async () => {
    await using server = await startMultipartServer({
      authorize: async () => {},
      resolve: async () => {
        throw new ServiceError("BUSY", "No room.");
      },
    });
    const request = rawPost(multipartBody(operations, map, file));
    using connection = await connectRaw(server.port);
    await connection.send(request.subarray(0, request.indexOf('\r\nContent-Disposition: form-data; name="0"')));
    const answer = await connection.answer();
    expect(answer?.status).toBe(503);
    expect(answer?.headers.get("connection")).toBe("close");
    await connection.ended();
  });

  it("lets go of bytes that were read before the nursery is collected twice", async () => {
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as (options?: { type: "minor" }) => void;
    const content = Buffer.alloc(32 * 1024 * 1024);
    const body = rawPost(multipartBody(operations, map, filePart("0", "long.wav", content)));
    let heldBytes = 0;
    await using server = await startMultipartServer({
      limits: { maxFileBytes: content.length },
      resolve: async (upload) => {
        using incoming = await openIncomingFile(upload);
        collect();
        const before = process.memoryUsage().arrayBuffers;
        let chunks = 0;
        for await (const _chunk of incoming.bytes()) {
          if (++chunks % 8 === 0) collect({ type: "minor" });
          heldBytes = Math.max(heldBytes, process.memoryUsage().arrayBuffers - before);
        }
      },
    });
    const answer = await exchange(server.port, body);
    expect(answer?.status).toBe(200);
    expect(heldBytes).toBeLessThan(3 * 1024 * 1024); // with what the next collection frees: 1 MiB
  });

  it("stops after the response if the file is not read", async () => {
    await using server = await startMultipartServer({ resolve: async () => "not interested" });
    const request = rawPost(multipartBody(operations, map, file), { "content-length": "900000" });
    using connection = await connectRaw(server.port);
    await connection.send(request);
    expect(JSON.parse((await connection.answer())?.body ?? "")).toEqual({ data: "not interested" });
    await connection.ended();
  });

  it("responds to a client that sends everything before it reads", async () => {
    await using server = await startMultipartServer();
    const body = multipartBody(operations, map, filePart("0", "a.wav", Buffer.alloc(900_000)));
    using connection = await connectRaw(server.port);
    connection.socket.pause();
    await connection.send(rawPost(body, { "apollo-require-preflight": undefined }));
    connection.socket.resume();
    expect((await connection.answer())?.status).toBe(400);
  });

  it("fails at once if the client disconnected before it begins", async () => {
    const outcome = Promise.withResolvers<unknown>();
    const server = createServer((request, response) => {
      request.once("close", () => {
        readMultipartRequest(request, response, testLimits).then(outcome.resolve, outcome.resolve);
      });
      response.writeContinue();
    });
    await once(server.listen(0, "127.0.0.1"), "listening");
    const address = server.address();
    using connection = await connectRaw(typeof address === "object" ? (address?.port ?? 0) : 0);
    await connection.send(rawPost(Buffer.alloc(0), { "content-length": "100" }));
    await connection.answer();
    connection.reset();
    expect(await outcome.promise).toMatchObject({ code: "CLIENT_CLOSED_REQUEST" });
    server.close();
  });

  it("gives up on a client that stops before the file", async () => {
    await using server = await startMultipartServer({ limits: { stallSeconds: 0.05 } });
    const request = rawPost(multipartBody(operations, map, file));
    using connection = await connectRaw(server.port);
    await connection.send(request.subarray(0, request.indexOf("mutation")));
    const answer = await connection.answer();
    expect(answer?.status).toBe(408);
    expect(JSON.parse(answer?.body ?? "").code).toBe("UPLOAD_STALLED");
  });
});

/** Whether the response blames the request, or has the same file that undici's parser finds in the body. */
async function isSoundAnswer({ status, body }: RawAnswer, sent: Buffer): Promise<boolean> {
  const answer = JSON.parse(body);
  if (status !== 200) return [400, 408, 415, 422].includes(status) && typeof answer.code === "string";
  const headers = { "content-type": `multipart/form-data; boundary=${boundary}` };
  const form = await new Response(new Uint8Array(sent), { headers }).formData().catch(() => undefined);
  const found = [...(form?.values() ?? [])].at(-1);
  if (!(found instanceof File)) return true; // undici's parser is stricter about headers, preamble and epilogue
  return answer.data.sha256 === summary("", Buffer.from(await found.arrayBuffer())).sha256;
}

function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

const tokens = [
  `\r\n--${boundary}`,
  `\r\n--${boundary}--`,
  `--${boundary}\r\n`,
  `--${boundary}\n`,
  `--${boundary} \t\r\n`,
  "\r\n\r\n",
  "\r\n",
  "\r",
  "--",
  "\0",
  "\u0001",
  ":",
  ";",
  '"',
  "\\",
  "null",
  "{",
  "[",
  "}",
  "__proto__",
  "constructor.prototype",
  'Content-Disposition: form-data; name="0"; filename="b.wav"\r\n',
  "Content-Type: application/octet-stream; charset=base64\r\n",
  "filename*=utf-16le''%00%d8",
  "filename*0*=utf-8''%c3; filename*1*=%b6",
  "=?utf-8?B?w7w=?=",
  "Content-Transfer-Encoding: base64\r\n",
  "\n\n",
  "\ufeff",
  "\u{1f3b5}",
];

/** Makes one to four changes: flips, removes or repeats bytes, or inserts a token of the format. */
function mutate(valid: Buffer, random: (below: number) => number): Buffer {
  let body = Buffer.from(valid);
  for (let changes = 1 + random(4); changes > 0 && body.length > 0; changes--) {
    const at = random(body.length);
    const end = at + random(Math.min(body.length - at, random(4) === 0 ? 200 : 8) + 1);
    const kind = random(5);
    const middle =
      kind === 0
        ? Buffer.of(random(256))
        : kind === 1
          ? Buffer.alloc(0)
          : kind === 2
            ? Buffer.concat([body.subarray(at, end), body.subarray(at, end)])
            : Buffer.from(tokens[random(tokens.length)] ?? "");
    body = Buffer.concat([body.subarray(0, at), middle, body.subarray(kind === 4 ? at : end)]);
    if (random(20) === 0) body = body.subarray(0, random(body.length + 1));
  }
  return body;
}
