/**
 * What a running service must do, seen from outside: BASE=http://localhost:8000 npm run acceptance
 *
 * It creates two users and deletes them at the end. Where registration is not open, TOKEN and OTHER_TOKEN are tokens of two
 * users with all scopes; then it deletes only the recordings that it made.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, it } from "node:test";
import {
  append,
  base,
  bearer,
  fields,
  offsetOf,
  run,
  secondsOfMp3,
  sendRest,
  sineWav,
  startWithTus,
  upload,
} from "./client.ts";

interface Account {
  readonly id: string;
  readonly name: string;
  readonly token: string;
  readonly isNew: boolean;
}

let ann: Account;
let bob: Account;

async function account(name: string, token: string | undefined): Promise<Account> {
  if (token) {
    const { status, data, code } = await run("{ me { id } }", {}, token);
    assert.equal(status, 200, `The token of ${name} is refused: ${code}`);
    return { id: data.me.id, name, token, isNew: false };
  }
  const create = "mutation ($name: String!) { createUser(name: $name) { user { id name } token } }";
  const { data, code } = await run(create, { name });
  assert.equal(code, undefined, `No user can be created (${code}): set TOKEN and OTHER_TOKEN`);
  assert.equal(data.createUser.user.name, name);
  return { id: data.createUser.user.id, name, token: data.createUser.token, isNew: true };
}

const made: string[] = [];

/** Uploads for Ann and checks that it was stored. */
async function store(file: Blob, args: Readonly<Record<string, string>> = {}): Promise<any> {
  const { status, data, code } = await upload(ann.token, file, args);
  assert.deepEqual([status, code], [200, undefined]);
  made.push(data.uploadRecord.record.id);
  return data.uploadRecord.record;
}

async function get(url: string, headers: Record<string, string> = {}, method = "GET") {
  const response = await fetch(url, { method, headers });
  return { status: response.status, headers: response.headers, body: Buffer.from(await response.arrayBuffer()) };
}

const codeOf = ({ body }: { body: Buffer }): string => JSON.parse(body.toString()).error.code;

function assertSound(mp3: Buffer, seconds: number): void {
  const sound = secondsOfMp3(mp3);
  // An encoder adds up to three frames.
  assert(sound >= seconds && sound < seconds + 0.1, `${sound} s of sound, expected ${seconds}`);
}

before(async () => {
  [ann, bob] = [await account("Ann", process.env.TOKEN), await account("Bob", process.env.OTHER_TOKEN)];
});

after(async () => {
  if (!ann) return;
  if (!ann.isNew)
    await run("mutation ($ids: [ID!]!) { deleteRecords(ids: $ids) { deletedIds } }", { ids: made }, ann.token);
  for (const { name, token } of [ann, bob].filter((each) => each?.isNew)) {
    const remove = "mutation ($name: String!) { deleteUser(confirm: $name) { deletedId } }";
    const { code } = await run(remove, { name }, token);
    assert.equal(code, undefined);
  }
});

describe("the service", () => {
  it("lives, and is ready", async () => {
    for (const path of ["/healthz", "/readyz"]) assert.equal((await get(base + path)).status, 200, path);
  });

  it("tells a user who they are", async () => {
    const { data } = await run("{ me { id } }", {}, ann.token);
    assert.equal(data.me.id, ann.id);
  });
});

describe("an upload", () => {
  it("becomes an MP3 with the sound of the WAV", async () => {
    const record = await store(sineWav({ seconds: 2 }), { title: "Two seconds" });
    assert.equal(record.title, "Two seconds");
    assert.equal(record.durationSeconds, 2);
    assert.equal(record.owner.id, ann.id);
    const { status, headers, body } = await get(record.url);
    assert.equal(status, 200);
    assert.equal(headers.get("content-type"), "audio/mpeg");
    assert.equal(body.length, record.sizeBytes);
    assertSound(body, 2);
  });

  // More than 5 MiB of MP3, which S3 gets in parts.
  it("of minutes does so, too", async () => {
    const record = await store(sineWav({ seconds: 150 }), { quality: "HIGH" });
    assert.equal(record.durationSeconds, 150);
    const { body } = await get(record.url);
    assert.equal(body.length, record.sizeBytes);
    assert(body.length > 5 * 1024 ** 2);
    assertSound(body, 150);
    const ranges = [0, 1_000_000, 5_242_000, body.length - 1000].map(async (from) => {
      const part = await get(record.url, { range: `bytes=${from}-${from + 999}` });
      assert.deepEqual([part.status, part.body.equals(body.subarray(from, from + 1000))], [206, true]);
    });
    await Promise.all(ranges);
  });

  it("with the same idempotency key is stored once", async () => {
    const idempotencyKey = randomUUID();
    const first = await store(sineWav({ seconds: 1 }), { idempotencyKey });
    const { data } = await upload(ann.token, sineWav({ seconds: 1 }), { idempotencyKey });
    assert.equal(data.uploadRecord.created, false);
    assert.equal(data.uploadRecord.record.id, first.id);
    const other = await upload(ann.token, sineWav({ seconds: 2 }), { idempotencyKey });
    assert.deepEqual([other.status, other.code], [409, "CONFLICT"]);
  });
});

describe("a link", () => {
  let record: any;
  let mp3: Buffer;
  let etag: string;
  let modified: string;

  before(async () => {
    record = await store(sineWav({ seconds: 3 }));
    const { headers, body } = await get(record.url);
    [mp3, etag, modified] = [body, headers.get("etag")!, headers.get("last-modified")!];
  });

  it("has the same headers for HEAD as for GET", async () => {
    const [got, head] = [await get(record.url), await get(record.url, {}, "HEAD")];
    assert.deepEqual([head.status, head.body.length], [200, 0]);
    for (const name of [
      "content-type",
      "content-length",
      "content-disposition",
      "accept-ranges",
      "etag",
      "last-modified",
    ])
      assert.equal(head.headers.get(name), got.headers.get(name), name);
    assert.equal(head.headers.get("content-length"), String(record.sizeBytes));
    assert.equal(head.headers.get("accept-ranges"), "bytes");
  });

  it("plays in the page as streamUrl, and is a download as url", async () => {
    const dispositions = [record.streamUrl, record.url].map(
      async (url) => (await get(url, {}, "HEAD")).headers.get("content-disposition")?.split(";")[0],
    );
    assert.deepEqual(await Promise.all(dispositions), ["inline", "attachment"]);
  });

  it("sends ranges", async () => {
    const size = mp3.length;
    for (const [range, from, to] of [
      ["bytes=0-0", 0, 1],
      ["bytes=100-199", 100, 200],
      [`bytes=${size - 10}-`, size - 10, size],
      ["bytes=-500", size - 500, size],
    ] as const) {
      const { status, headers, body } = await get(record.url, { range });
      assert.equal(status, 206, range);
      assert.equal(headers.get("content-range"), `bytes ${from}-${to - 1}/${size}`);
      assert(body.equals(mp3.subarray(from, to)), range);
    }
    const beyond = await get(record.url, { range: `bytes=${size}-` });
    assert.deepEqual([beyond.status, codeOf(beyond)], [416, "RANGE_NOT_SATISFIABLE"]);
  });

  it("answers conditions", async () => {
    assert.equal((await get(record.url, { "if-none-match": etag })).status, 304);
    assert.equal((await get(record.url, { "if-modified-since": modified })).status, 304);
    assert.equal((await get(record.url, { "if-none-match": '"other"' })).status, 200);
    assert.equal((await get(record.url, { range: "bytes=0-9", "if-range": etag })).status, 206);
    assert.equal((await get(record.url, { range: "bytes=0-9", "if-range": '"other"' })).status, 200);
    const failed = await get(record.url, { "if-match": '"other"' });
    assert.deepEqual([failed.status, codeOf(failed)], [412, "PRECONDITION_FAILED"]);
  });

  it("to share opens a private recording, until it is revoked", async () => {
    const hidden = await store(sineWav({ seconds: 1 }), { visibility: "PRIVATE" });
    const create = "mutation ($id: ID!) { createLink(recordId: $id) { link { id url listenUrl } } }";
    const { data } = await run(create, { id: hidden.id }, ann.token);
    const { id, url, listenUrl } = data.createLink.link;
    const opened = await get(url);
    assert.equal(opened.status, 200);
    assertSound(opened.body, 1);
    const page = await get(listenUrl, { accept: "text/html" });
    assert.deepEqual([page.status, page.headers.get("content-type")?.split(";")[0]], [200, "text/html"]);
    const { status } = await run("mutation ($id: ID!) { revokeLink(id: $id) { revokedId } }", { id }, ann.token);
    assert.equal(status, 200);
    assert.equal((await get(url)).status, 404);
  });
});

describe("a list", () => {
  it("has a recording until it is deleted, and then neither the list nor the link", async () => {
    const title = `Deleted ${randomUUID()}`;
    const { id, url } = await store(sineWav({ seconds: 1 }), { title });
    const find = "query ($text: String!) { me { records(filter: { text: $text }) { totalCount nodes { id title } } } }";
    const found = async () => (await run(find, { text: title }, ann.token)).data.me.records;
    assert.deepEqual(await found(), { totalCount: 1, nodes: [{ id, title }] });
    const { data } = await run("mutation ($id: ID!) { deleteRecord(id: $id) { deletedId } }", { id }, ann.token);
    assert.equal(data.deleteRecord.deletedId, id);
    assert.deepEqual(await found(), { totalCount: 0, nodes: [] });
    assert.equal((await get(url)).status, 404);
  });
});

describe("a resumable upload", () => {
  it("goes on at the byte it got to when its connection was cut", async () => {
    const file = sineWav({ seconds: 30 });
    const start = 'mutation ($size: SafeInt) { startUpload(fileName: "cut.wav", sizeBytes: $size) { upload { url } } }';
    const { data } = await run(start, { size: file.size }, ann.token);
    const { url } = data.startUpload.upload;
    const sent = 2 * 1024 ** 2;
    const cut = new AbortController();
    const body = new ReadableStream({
      async start(controller) {
        controller.enqueue(new Uint8Array(await file.slice(0, sent).arrayBuffer()));
        setTimeout(() => cut.abort(), 1000);
      },
    });
    await assert.rejects(append(url, 0, body, cut.signal));
    const offset = await offsetOf(url);
    // A proxy that keeps a body until it is complete (nginx: proxy_request_buffering on) passes nothing on.
    assert(offset > 0 && offset <= sent, `${offset} of ${sent} bytes arrived before the cut`);
    const recording = await sendRest(url, file);
    made.push(recording.id);
    const record = (await run(`query ($id: ID!) { record(id: $id) { ${fields} } }`, { id: recording.id }, ann.token))
      .data.record;
    assert.equal(record.durationSeconds, 30);
    assertSound((await get(record.url)).body, 30);
  });

  it("starts with tus alone, and comes in several requests", async () => {
    const file = sineWav({ seconds: 2 });
    const url = await startWithTus(ann.token, file.size);
    const half = Math.floor(file.size / 2);
    const first = await append(url, 0, file.slice(0, half));
    assert.deepEqual([first.status, first.headers.get("upload-offset")], [204, String(half)]);
    const wrong = await append(url, 10, file.slice(10, 20));
    assert.equal(wrong.status, 409);
    await wrong.body?.cancel();
    const recording = await sendRest(url, file);
    made.push(recording.id);
    assertSound((await get(recording.url)).body, 2);
  });
});

describe("another user", () => {
  it("can neither read nor change nor delete a private recording", async () => {
    const { id, url } = await store(sineWav({ seconds: 1 }), { visibility: "PRIVATE" });
    assert.equal((await get(url, bearer(ann.token))).status, 200);
    for (const headers of [{}, bearer(bob.token)]) {
      const refused = await get(url, headers);
      assert.deepEqual([refused.status, codeOf(refused)], [404, "NOT_FOUND"]);
    }
    for (const document of [
      "query ($id: ID!) { record(id: $id) { title } }",
      'mutation ($id: ID!) { updateRecord(id: $id, title: "Mine") { record { id } } }',
      "mutation ($id: ID!) { createLink(recordId: $id) { link { url } } }",
      "mutation ($id: ID!) { deleteRecord(id: $id) { deletedId } }",
    ]) {
      const { code, data } = await run(document, { id }, bob.token);
      assert(code === "NOT_FOUND" || data?.record === null, `${document}: ${code}`);
    }
    assert.equal((await get(url, bearer(ann.token))).status, 200);
  });
});

describe("a mistake gets its code", () => {
  for (const [what, document, status, code] of [
    ["no GraphQL", "{", 400, "GRAPHQL_PARSE_FAILED"],
    ["an unknown field", "{ me { shoeSize } }", 400, "GRAPHQL_VALIDATION_FAILED"],
    ["no token", "mutation { deleteRecords(ids: []) { deletedIds } }", 401, "UNAUTHENTICATED"],
  ] as const) {
    it(`${what}: ${code}`, async () => {
      const answer = await run(document);
      assert.deepEqual([answer.status, answer.code], [status, code]);
    });
  }

  it("a page of a negative length: BAD_USER_INPUT", async () => {
    const { status, code } = await run("{ me { records(first: -1) { totalCount } } }", {}, ann.token);
    assert.deepEqual([status, code], [400, "BAD_USER_INPUT"]);
  });

  it("a token that does not exist: UNAUTHENTICATED", async () => {
    const { status, code } = await run("{ me { id } }", {}, randomUUID());
    assert.deepEqual([status, code], [401, "UNAUTHENTICATED"]);
  });

  it("a recording that does not exist: NOT_FOUND", async () => {
    const remove = "mutation ($id: ID!) { deleteRecord(id: $id) { deletedId } }";
    const { status, code } = await run(remove, { id: randomUUID() }, ann.token);
    assert.deepEqual([status, code], [404, "NOT_FOUND"]);
  });

  it("a file that is no WAV: UNSUPPORTED_MEDIA", async () => {
    const { status, code } = await upload(ann.token, new Blob(["This is no WAV. ".repeat(1000)]));
    assert.deepEqual([status, code], [415, "UNSUPPORTED_MEDIA"]);
  });

  it("a WAV without sound: UPLOAD_INCOMPLETE", async () => {
    const { status, code } = await upload(ann.token, sineWav({ seconds: 1 }).slice(0, 44));
    assert.deepEqual([status, code], [422, "UPLOAD_INCOMPLETE"]);
  });

  for (const [path, method, status, code] of [
    ["/record", "GET", 400, "BAD_USER_INPUT"],
    [`/record?id=${randomUUID()}&user=1`, "GET", 404, "NOT_FOUND"],
    [`/record?id=${randomUUID()}&user=1`, "POST", 405, "METHOD_NOT_ALLOWED"],
    ["/no-such-address", "GET", 404, "NOT_FOUND"],
  ] as const) {
    it(`${method} ${path.replace(/id=[\da-f-]+/, "id=...")}: ${code}`, async () => {
      const answer = await get(base + path, { accept: "application/json" }, method);
      assert.deepEqual([answer.status, codeOf(answer)], [status, code]);
    });
  }
});
