/// <reference lib="dom" />
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { setTimeout } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { startMultipartServer, type MultipartServer } from "./support/multipart-server.ts";
import {
  boundary,
  connectRaw,
  exchange,
  fieldPart,
  filePart,
  httpChunk,
  multipartBody,
  rawPost,
  type RawPart,
} from "./support/raw-http.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

const operationsJson = '{"query":"mutation($file:Upload!){x}","variables":{"file":null}}';
const mapJson = '{"0":["variables.file"]}';
const operations = fieldPart("operations", operationsJson);
const map = fieldPart("map", mapJson);
const file = filePart("0", "take.wav", "RIFF");

function bytesOf(...pieces: readonly (string | readonly number[])[]): Buffer {
  return Buffer.concat(pieces.map((piece) => (typeof piece === "string" ? Buffer.from(piece) : Buffer.from(piece))));
}

function disposition(...pieces: readonly (string | readonly number[])[]): RawPart {
  return { head: bytesOf("Content-Disposition: ", ...pieces), content: "RIFF" };
}

describe("the multipart reader", () => {
  let server: MultipartServer;
  beforeAll(async () => {
    server = await startMultipartServer();
  });
  afterAll(async () => await server[Symbol.asyncDispose]());

  async function post(body: Buffer, headers?: Record<string, string | undefined>) {
    const answer = await exchange(server.port, rawPost(body, headers));
    const { data, code, message } = JSON.parse(answer?.body ?? "null");
    return { status: answer?.status, fileName: data?.fileName, byteLength: data?.byteLength, code, message };
  }

  async function nameFrom(part: RawPart, headers?: Record<string, string>): Promise<string> {
    const answer = await post(multipartBody(operations, map, part), headers);
    return answer.fileName ?? `${answer.status} ${answer.message}`;
  }

  describe("reads the file's name as it is sent by", () => {
    it.each<[string, RawPart, string]>([
      ["a browser", disposition('form-data; name="0"; filename="Lied für Ann.wav"'), "Lied für Ann.wav"],
      [
        "a browser, with quotes",
        disposition('form-data; name="0"; filename="a %22b%22 50% off.wav"'),
        'a "b" 50% off.wav',
      ],
      ["a browser, with line breaks", disposition('form-data; name="0"; filename="a%0D%0Ab.wav"'), "a b.wav"],
      [
        "a browser, from a page in an old charset",
        disposition('form-data; name="0"; filename="&#38899;&#27005;.wav"'),
        "音楽.wav",
      ],
      [
        "Safari, with the folder of a picked directory",
        disposition('form-data; name="0"; filename="songs/a.wav"'),
        "a.wav",
      ],
      ["Internet Explorer", disposition(String.raw`form-data; name="0"; filename="C:\dir\take.wav"`), "take.wav"],
      [
        "Windows, from a share",
        disposition(String.raw`form-data; name="0"; filename="\\box\new\take.wav"`),
        "take.wav",
      ],
      [
        "curl, with quotes and backslashes",
        disposition(String.raw`form-data; name="0"; filename="a \"b\" \\ c.wav"`),
        "c.wav",
      ],
      [
        "curl, with quotes",
        disposition(String.raw`form-data; name="0"; filename="my \"best\" take.wav"`),
        'my "best" take.wav',
      ],
      [
        "a script that escapes nothing",
        disposition('form-data; name="0"; filename="a "b"; c, d=e.wav"'),
        'a "b"; c, d=e.wav',
      ],
      [
        "React Native",
        disposition('form-data; name="0"; filename="Mein%20Lied%20f%C3%BCr%20Ann.wav"'),
        "Mein Lied für Ann.wav",
      ],
      [
        "React Native, with a percent sign",
        disposition('form-data; name="0"; filename="100%25%20live.wav"'),
        "100% live.wav",
      ],
      [
        "React Native of 2024",
        disposition(
          `form-data; name="0"; filename="Take%20(1),%20a:b.wav"; filename*=utf-8''Take%20(1),%20Ann's%20a:b.wav`,
        ),
        "Take (1), Ann's a:b.wav",
      ],
      [
        "React Native of 2024, with a semicolon",
        disposition(`form-data; name="0"; filename="a;b=c.wav"; filename*=utf-8''a;b=c.wav`),
        "a;b=c.wav",
      ],
      [".NET", disposition('form-data; name=0; filename="=?utf-8?B?TGllZCBmw7xyIEFubi53YXY=?="'), "Lied für Ann.wav"],
      [
        ".NET, with both parameters",
        disposition("form-data; name=0; filename==?utf-8?B?bm8=?=; filename*=utf-8''Lied%20f%C3%BCr%20Ann.wav"),
        "Lied für Ann.wav",
      ],
      [
        "JavaMail, in several words over two lines",
        disposition('form-data; name="0";\r\n filename="=?UTF-8?Q?Lied_f=C3=BC?=\r\n =?UTF-8?Q?r_Ann=2Ewav?="'),
        "Lied für Ann.wav",
      ],
      [
        "a mail library that cuts a character in two",
        disposition('form-data; name="0"; filename="=?utf-8?b?ZsM=?= =?UTF-8?B?vHI=?=.wav"'),
        "für.wav",
      ],
      [
        "a mail library in ISO-8859-1",
        disposition('form-data; name="0"; filename="=?iso-8859-1?q?f=FCr?= Ann.wav"'),
        "für Ann.wav",
      ],
      ["Java's URLEncoder", disposition('form-data; name="0"; filename="Lied+f%C3%BCr+Ann.wav"'), "Lied für Ann.wav"],
      [
        "Android, from a content address",
        disposition('form-data; name="0"; filename="primary%3AMusic%2Ftake.wav"'),
        "take.wav",
      ],
      [
        "Python's email package",
        disposition(`form-data; name="0"; filename*0*=utf-8''Lied%20; filename*1*=f%C3%BCr; filename*2=" Ann.wav"`),
        "Lied für Ann.wav",
      ],
      [
        "a mail library with encoded words in continuations",
        disposition('form-data; name="0"; filename*0="=?UTF-8?Q?f=C3=BCr?="; filename*1=" Ann.wav"'),
        "für Ann.wav",
      ],
      ["urllib3 1", disposition(`form-data; name="0"; filename*=utf-8''f%C3%BCr.wav`), "für.wav"],
      ["a client with upper case", disposition(`FORM-DATA; NAME="0"; FILENAME*=UTF-8'en'f%c3%bcr.wav`), "für.wav"],
      ["a client in ISO-8859-1", disposition(`form-data; name="0"; filename*=iso-8859-1''f%FCr.wav`), "für.wav"],
      ["a client with quotes around", disposition(`form-data; name="0"; filename*="UTF-8''f%C3%BCr.wav"`), "für.wav"],
      ["a client with quotes inside", disposition(`form-data; name="0"; filename*=UTF-8''"f%C3%BCr.wav"`), "für.wav"],
      ["a client without quotes", disposition("form-data; name=0; filename=my take.wav"), "my take.wav"],
      ["a client with spaces and semicolons", disposition('form-data ;name = "0" ; filename = "a.wav" ; '), "a.wav"],
      ["macOS", disposition('form-data; name="0"; filename="fu\u0308r.wav"'), "für.wav"],
      ["a client with a BOM", disposition('form-data; name="0"; filename="\ufeffa.wav"'), "a.wav"],
      [
        "a client in raw windows-1252",
        disposition('form-data; name="0"; filename="f', [0xfc], "r ", [0x80], '.wav"'),
        "für €.wav",
      ],
      [
        "a client in raw Shift JIS",
        disposition('form-data; name="0"; filename="', [0x83, 0x5c, 0x83, 0x89], '.wav"'),
        "ソラ.wav",
      ],
    ])("%s", async (_client, part, fileName) => {
      expect(await nameFrom(part)).toBe(fileName);
    });

    it("a client whose content type names the charset", async () => {
      const part = disposition('form-data; name="0"; filename="', [0xcf, 0xe5, 0xf1, 0xed, 0xff], '.wav"');
      const contentType = `multipart/form-data; charset=windows-1251; boundary=${boundary}`;
      expect(await nameFrom(part, { "content-type": contentType })).toBe("Песня.wav");
    });
  });

  it.each([
    ['"50% off.wav"', "50% off.wav"],
    ['"50%50 mix.wav"', "50%50 mix.wav"],
    ['"80%20 rule.wav"', "80%20 rule.wav"],
    ['"100%25 live.wav"', "100% live.wav"],
    ['"a%2Fb.wav"', "b.wav"],
    ['"..%2F..%2Fetc%2Fpasswd"', "passwd"],
    ['".."', ""],
    ['"%FF%FE.wav"', "%FF%FE.wav"],
    [`"UTF-8''f%C3%BCr.wav"`, "für.wav"],
    ['"=?utf-8?B?"', "=?utf-8?B?"],
    ['"Best of =?x?= .wav"', "Best of =?x?= .wav"],
    ['"a&b &amp; &#38; &#99999999;.wav"', "a&b &amp; &#38; &#99999999;.wav"],
  ])("takes filename=%s for %s", async (sent, fileName) => {
    expect(await nameFrom(disposition(`form-data; name="0"; filename=${sent}`))).toBe(fileName);
  });

  it.each([
    ["an unknown charset", `filename="a.wav"; filename*=klingon''b.wav`, "a.wav"],
    ["bytes that are not in its charset", `filename="a.wav"; filename*=utf-8''%FF%FF.wav`, "a.wav"],
    ["an empty value", `filename="a.wav"; filename*=utf-8''`, "a.wav"],
    ["no value", `filename*; filename="a.wav"`, "a.wav"],
    ["an encoded word in an unknown charset", `filename="=?klingon?B?YQ==?="`, ""],
    ["a continuation without a beginning", `filename*1*=b; filename="a.wav"`, "a.wav"],
    ["a second parameter of the same name", `filename="a.wav"; filename="b.wav"`, "a.wav"],
    ["a parameter that nobody knows", `voice="yes; no"; filename="a.wav"; x=1`, "a.wav"],
  ])("loses no more than the parameter to %s", async (_fault, parameters, fileName) => {
    expect(await nameFrom(disposition(`form-data; name="0"; ${parameters}`))).toBe(fileName);
  });

  it("answers any content of a part's header", async () => {
    const pieces = [";", '"', '";', " ", "%20", "=?", "=?a?b?", "a=", "; a", "\\", "'", "&#", "\r\n ", '"; filename="'];
    for (const piece of pieces) {
      const filler = piece.repeat(15_000 / piece.length);
      for (const parameter of [`filename="${filler}.wav`, `filename*=${filler}`]) {
        const answer = await post(multipartBody(operations, map, disposition(`form-data; name="0"; ${parameter}`)));
        expect([parameter.slice(0, 20), answer.status]).toEqual([parameter.slice(0, 20), 200]);
      }
    }
  });

  it.each([
    `multipart/form-data; boundary=${boundary}; charset=ISO-8859-1`,
    `multipart/form-data; charset="utf-8"; boundary="${boundary}"; profile=x`,
    `multipart/form-data; boundary=${boundary};`,
    `multipart/form-data;; BOUNDARY = ${boundary} ;`,
    `Multipart/Form-Data ;boundary="----test\\-boundary"`.replace("\\-", "-"),
    `multipart/form-data; a b; boundary=${boundary}`,
    `multipart/form-data; charset="a;boundary=x"; boundary=${boundary}`,
  ])("takes the content type %s", async (contentType) => {
    expect((await post(multipartBody(operations, map, file), { "content-type": contentType })).status).toBe(200);
  });

  it.each([
    ["====1764====", "====1764===="],
    ["Boundary:a/b?c=d,(e)", "Boundary:a/b?c=d,(e)"],
    ["a b c", "a b c"],
    ['"a;b"', "a;b"],
    [String.raw`"a\"b\\c"`, String.raw`a"b\c`],
    ["'quoted'", "'quoted'"],
    ["x".repeat(70), "x".repeat(70)],
    ["gr\u00fc\u00df", "gr\u00fc\u00df"],
  ])("takes the boundary %s", async (sent, meant) => {
    const text = multipartBody(operations, map, file).toString().replaceAll(boundary, meant);
    const head = rawPost(Buffer.alloc(0), { "content-type": undefined, "content-length": undefined });
    const lines = `content-type: multipart/form-data; boundary=${sent}\r\ncontent-length: ${text.length}\r\n\r\n${text}`;
    const request = Buffer.from(head.toString("latin1").slice(0, -2) + lines, "latin1");
    expect((await exchange(server.port, request))?.status).toBe(200);
  });

  describe("takes", () => {
    const octets = "Content-Type: application/octet-stream";
    it.each<[string, RawPart[]]>([
      [
        "operations and map as Blobs",
        [filePart("operations", "blob", operationsJson), filePart("map", "blob", mapJson), file],
      ],
      [
        "operations and map as JSON",
        [
          {
            head: "Content-Disposition: form-data; name=operations\r\nContent-Type: application/json; charset=utf-8",
            content: operationsJson,
          },
          { head: "Content-Disposition: form-data; name=map\r\nContent-Type: application/json", content: mapJson },
          file,
        ],
      ],
      [
        "a BOM before operations and map",
        [fieldPart("operations", `\ufeff${operationsJson}`), fieldPart("map", `\ufeff${mapJson}`), file],
      ],
      [
        "Apache's StringBody in ISO-8859-1",
        [
          {
            head: 'Content-Disposition: form-data; name="operations"\r\nContent-Type: text/plain; charset=ISO-8859-1\r\nContent-Transfer-Encoding: 8bit',
            content: bytesOf(
              '{"query":"mutation($file:Upload!){x}","variables":{"file":null,"title":"f',
              [0xfc],
              'r"}}',
            ),
          },
          map,
          file,
        ],
      ],
      [
        "Apollo Kotlin's file without a name",
        [
          operations,
          map,
          {
            head: 'Content-Disposition: form-data; name="0"\r\nContent-Type: audio/wav\r\nContent-Length: 4',
            content: "RIFF",
          },
        ],
      ],
      [
        "Python's stream without a name",
        [operations, map, { head: `Content-Disposition: form-data; name="0"\r\n${octets}`, content: "\0\x01" }],
      ],
      ["a file without a name or a content type", [operations, map, fieldPart("0", "RIFF\0\0\0\0WAVE")]],
      [
        "a file with Content-Transfer-Encoding: binary",
        [operations, map, { head: `${String(file.head)}\r\nContent-Transfer-Encoding: Binary`, content: "x" }],
      ],
      [
        "upper and lower case in header names",
        [
          { head: 'CONTENT-DISPOSITION:form-data;name="operations"', content: operationsJson },
          map,
          { head: 'content-disposition: form-data; name="0"; filename="a"\r\nX-Empty:', content: "x" },
        ],
      ],
      [
        "dispositions that are no form-data",
        [
          { head: 'Content-Disposition: attachment; name="operations"', content: operationsJson },
          { head: 'Content-Disposition: name="map"', content: mapJson },
          { head: 'Content-Disposition: file; name="0"; filename="a"', content: "x" },
        ],
      ],
    ])("%s", async (_case, parts) => {
      expect(await post(multipartBody(...parts))).toMatchObject({ status: 200, message: undefined });
    });

    it("the bytes of the body, whatever is around them", async () => {
      const whole = multipartBody(operations, map, file).toString();
      const bodies = {
        "no line end behind": whole.slice(0, -2),
        "a preamble and an epilogue": `This is a message in MIME.\r\n\r\n${whole}\r\nbye\r\n--${boundary}\r\n`,
        "a line end in front": `\r\n${whole}`,
        "padding behind the boundaries": whole.replaceAll(`${boundary}\r\n`, `${boundary} \t \r\n`),
        "a folded header": whole.replace("form-data; ", "form-data;\r\n\t "),
        "LF for CRLF": whole.replaceAll("\r\n", "\n"),
      };
      for (const [form, body] of Object.entries(bodies)) {
        const answer = await post(Buffer.from(body));
        expect([form, answer.status, answer.byteLength]).toEqual([form, 200, 4]);
      }
    });

    it("empty content, with or without its own line end", async () => {
      const whole = multipartBody(operations, map, filePart("0", "a.wav", "")).toString();
      for (const body of [whole, whole.replace("audio/wav\r\n\r\n\r\n--", "audio/wav\r\n\r\n--")]) {
        expect(await post(Buffer.from(body))).toMatchObject({ status: 200, byteLength: 0 });
        const chunks = Array.from(Buffer.from(body), (byte) => httpChunk(Buffer.of(byte)));
        const head = rawPost(Buffer.alloc(0), { "content-length": undefined, "transfer-encoding": "chunked" });
        const answer = await exchange(server.port, Buffer.concat([head, ...chunks, httpChunk(Buffer.alloc(0))]));
        expect(answer?.status).toBe(200);
      }
    });

    it("a chunked body after 100 Continue", async () => {
      using connection = await connectRaw(server.port);
      const chunked = { "content-length": undefined, "transfer-encoding": "chunked", expect: "100-continue" };
      await connection.send(rawPost(Buffer.alloc(0), chunked));
      expect((await connection.answer())?.status).toBe(100);
      await connection.send(
        Buffer.concat([httpChunk(multipartBody(operations, map, file)), httpChunk(Buffer.alloc(0))]),
      );
      expect((await connection.answer())?.status).toBe(200);
    });
  });

  describe("says what was found and what to do:", () => {
    const text = (content: string | Buffer, head = 'Content-Disposition: form-data; name="operations"'): RawPart => ({
      head,
      content,
    });
    const extra = fieldPart("extra", "1");
    const second = filePart("1", "b.wav", "x");
    const encoded = (header: string) => [
      operations,
      map,
      { head: `${String(file.head)}\r\n${header}`, content: "UklGRg==" },
    ];
    it.each<[string, RawPart[], RegExp]>([
      [
        "a REST form",
        [filePart("file", "a.wav", "RIFF")],
        /first part .* must be `operations`, but it is the file `file`\. Send `operations`, then `map`/,
      ],
      ["map first", [map, operations, file], /must be `operations`, but it is the field `map`/],
      ["the file second", [operations, file, map], /second part .* must be `map`, but it is the file `0`/],
      ["operations twice", [operations, operations, map, file], /must be `map`, but it is the field `operations`/],
      ["an extra field", [operations, map, extra, file], /`map` names the file `0`, but the field `extra` follows/],
      [
        "another name than in map",
        [operations, map, second],
        /`map` names the file `0`, but the file `1` follows\. Give .* that name/,
      ],
      [
        "a part without a name",
        [operations, map, { head: "X-A: b", content: "" }],
        /but a part without a name follows/,
      ],
      ["no file", [operations, map], /`map` names the file `0`, but no part with that name follows/],
      ["no map", [operations], /no part `map`/],
      ["no parts", [], /no part `operations`/],
      [
        "a second file",
        [operations, map, file, second],
        /One request carries one file, but the file `1` follows it. Send one request for each/,
      ],
      [
        "a field behind the file",
        [operations, map, file, extra],
        /the field `extra` follows it\. .* no field after it/,
      ],
      [
        "two files in map",
        [operations, fieldPart("map", '{"0":["variables.a"],"1":["variables.b"]}'), file],
        /one file, but `map` names 2\. Send one request for each/,
      ],
      [
        "two paths",
        [operations, fieldPart("map", '{"0":["variables.a","variables.b"]}'), file],
        /`map` gives `0` 2 paths/,
      ],
      [
        "a path of a batch",
        [operations, fieldPart("map", '{"0":["0.variables.file"]}'), file],
        /`0.variables.file` in `map` must begin with `variables.`/,
      ],
      [
        "a path to nowhere",
        [operations, fieldPart("map", '{"0":["variables.wav"]}'), file],
        /`variables.wav` .* but nothing is there\. Set `variables.wav` to null/,
      ],
      [
        "a path to an object",
        [fieldPart("operations", '{"query":"q","variables":{"file":{}}}'), map, file],
        /but an object is there\. Set `variables.file` to null/,
      ],
      [
        "operations in UTF-16",
        [text(Buffer.from(`\ufeff${operationsJson}`, "utf16le")), map, file],
        /`operations` is in UTF-16\. Send it in UTF-8/,
      ],
      [
        "operations said to be in UTF-16",
        [
          text(
            operationsJson,
            'Content-Disposition: form-data; name="operations"\r\nContent-Type: application/json; charset=utf-16',
          ),
        ],
        /is in utf-16\. Send it in UTF-8/,
      ],
      [
        "operations in an unnamed charset",
        [text(bytesOf('{"query":"', [0xfc], '"}'))],
        /is in another charset\. Send it in UTF-8/,
      ],
      ["empty operations", [text("")], /`operations` is empty/],
      [
        "a file in Base64",
        encoded("Content-Transfer-Encoding: base64"),
        /part `0` has the Content-Transfer-Encoding `base64`\. Send its bytes unencoded/,
      ],
      ["a file in quoted-printable", encoded("content-transfer-encoding: Quoted-Printable"), /`quoted-printable`/],
      ["a part in gzip", encoded("Content-Encoding: gzip"), /Content-Encoding `gzip`/],
      [
        "a text for a file",
        [operations, map, fieldPart("0", "[object Object]")],
        /Text was sent instead of a file: the part `0` is `\[object Object\]`\. Append a File/,
      ],
      [
        "the address of a file for a file",
        [operations, map, fieldPart("0", "file:///storage/take.wav")],
        /`file:\/\/\/storage\/take.wav`/,
      ],
      [
        "no chosen file",
        [
          operations,
          map,
          {
            head: 'Content-Disposition: form-data; name="0"; filename=""\r\nContent-Type: application/octet-stream',
            content: "",
          },
        ],
        /No file was chosen: the part `0` has no file name and no content/,
      ],
      ["a line that is no header", [{ head: "Content-Disposition", content: "" }], /line .* not a header/],
    ])("%s", async (_fault, parts, message) => {
      const answer = await post(multipartBody(...parts));
      expect(answer.message).toMatch(message);
      expect([400, 415, 422]).toContain(answer.status);
    });

    it.each([
      ["multipart/form-data", /no boundary\. Do not set this header yourself/],
      ["multipart/form-data; boundary=", /no boundary/],
      ["multipart/form-data; boundary=a; boundary=a", /two boundaries/],
      [`multipart/form-data; boundary=${"x".repeat(71)}`, /1 to 70/],
      [
        "multipart/form-data; boundary=other",
        /boundary .* does not occur in the body\. Do not set this header yourself/,
      ],
    ])("the content type %s", async (contentType, message) => {
      const answer = await post(multipartBody(operations, map, file), { "content-type": contentType });
      expect([answer.status, answer.message]).toEqual([400, expect.stringMatching(message)]);
    });

    it("an empty body, and one that ends too early", async () => {
      expect((await post(Buffer.alloc(0))).message).toMatch(/body is empty/);
      const cut = multipartBody(operations, map, file).subarray(0, 80);
      expect((await post(cut)).message).toMatch(/ended before its last boundary, so it is incomplete/);
    });
  });

  it("holds back only the first bytes of a file without a name, and passes it on completely", async () => {
    for (const length of [1, 255, 256, 257, 100_000]) {
      const content = Buffer.alloc(length, 1);
      const answer = await post(
        multipartBody(operations, map, { head: 'Content-Disposition: form-data; name="0"', content }),
      );
      expect(answer).toMatchObject({ status: 200, byteLength: length });
    }
  });

  it("does not wait longer for a client that trickles bytes before the file", async () => {
    await using impatient = await startMultipartServer({ limits: { stallSeconds: 0.2 } });
    const request = rawPost(multipartBody(operations, map, file));
    const dribbles = Array.from({ length: 5 }, async () => {
      using connection = await connectRaw(impatient.port);
      const answered = connection.answer();
      await connection.send(request.subarray(0, request.length - 400));
      const left = request.subarray(request.length - 400);
      let answer;
      for (let at = 0; at < 200 && !answer; at++) {
        await connection.send(left.subarray(at, at + 1));
        answer = await Promise.race([answered, setTimeout(5)]);
      }
      return (await answered)?.status;
    });
    expect(await Promise.all(dribbles)).toEqual([408, 408, 408, 408, 408]);
  });
});

describe("the service", () => {
  let service: TestService;
  let ann: Credentials;
  const query = "mutation ($file: Upload!) { uploadRecord(file: $file) { record { title fileName } } }";
  const wav = sineWav({ seconds: 0.1 });

  beforeAll(async () => {
    service = await startService();
    ann = await new ApiClient(service.url).createUser("Ann");
  });
  afterAll(async () => await service?.[Symbol.asyncDispose]());

  async function upload(
    filePartHead: string | Buffer,
    headers: Record<string, string> = {},
    content: Buffer | string = wav,
  ) {
    const body = multipartBody(fieldPart("operations", JSON.stringify({ query, variables: { file: null } })), map, {
      head: filePartHead,
      content,
    });
    return await send(body, headers);
  }

  async function send(body: Buffer, headers: Record<string, string>) {
    const request = rawPost(body, { authorization: `Bearer ${ann.token}`, ...headers });
    const answer = await exchange(Number(new URL(service.url).port), request);
    const { data, errors } = JSON.parse(answer?.body ?? "null");
    const record = data?.uploadRecord?.record;
    return { status: answer?.status, headers: answer?.headers, data, record, message: errors?.[0].message };
  }

  it.each([
    ["React Native's", `filename="Take (1).wav"; filename*=utf-8''Take%20(1).wav`, "Take (1)"],
    ["React Native's escaped", 'filename="Mein%20Lied%20f%C3%BCr%20Ann.wav"', "Mein Lied für Ann"],
    [".NET's", 'filename="=?utf-8?B?TGllZCBmw7xyIEFubi53YXY=?="', "Lied für Ann"],
    ["Apollo Kotlin's missing", "", "Recording"],
  ])("gives a recording with %s file name a title that people read", async (_client, parameter, title) => {
    const head = `Content-Disposition: form-data; name="0"; ${parameter}\r\nContent-Type: audio/wav`;
    const { record, message } = await upload(head);
    expect(message).toBeUndefined();
    expect(record).toEqual({ title, fileName: title === "Recording" ? "" : `${title}.wav` });
  });

  it.each([
    `multipart/form-data; charset=ISO-8859-1; boundary=${boundary}`,
    `multipart/form-data; boundary=${boundary};`,
    `multipart/form-data ; Boundary="${boundary}"; a=b`,
  ])("takes an upload with the content type %s", async (contentType) => {
    expect((await upload(String(file.head), { "content-type": contentType })).status).toBe(200);
  });

  it.each(["gzip", "deflate", "br", "zstd", "GZIP, br"])(
    "refuses a body in %s and says what it takes",
    async (coding) => {
      const compressed = await upload(String(file.head), { "content-encoding": coding });
      expect(compressed).toMatchObject({
        status: 415,
        message: expect.stringMatching(/compressed.*without .*Content-Encoding/),
      });
      expect(compressed.headers?.get("accept-encoding")).toBe("identity");
      const json = await send(gzipSync('{"query":"{__typename}"}'), {
        "content-type": "application/json",
        "content-encoding": coding,
      });
      expect([json.status, json.headers?.get("accept-encoding")]).toEqual([415, "identity"]);
    },
  );

  it.each(["identity", "UTF-8"])("takes a body with Content-Encoding: %s", async (coding) => {
    expect((await upload(String(file.head), { "content-encoding": coding })).status).toBe(200);
  });

  it("takes a BOM before JSON", async () => {
    const answer = await send(Buffer.from('\ufeff{"query":"{__typename}"}'), { "content-type": "application/json" });
    expect([answer.status, answer.data]).toEqual([200, { __typename: "Query" }]);
  });

  it("names a WAV that was sent in Base64, as a data URL or packed", async () => {
    for (const content of [wav.toString("base64"), `data:audio/wav;base64,${wav.toString("base64")}`, gzipSync(wav)]) {
      const { status, message } = await upload(String(file.head), {}, content);
      expect([status, message]).toEqual([
        415,
        expect.stringMatching(/not a WAV. It looks like .*(decoded bytes|uncompressed)/),
      ]);
    }
  });

  it("refuses operations over 64 KiB, and responds although the file follows", async () => {
    const large = JSON.stringify({ query, variables: { file: null, x: "x".repeat(66_000) } });
    const answer = await send(multipartBody(fieldPart("operations", large), map, file), {});
    expect(answer).toMatchObject({ status: 400, message: expect.stringContaining("more than 65536 bytes") });
  });
});
