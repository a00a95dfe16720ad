import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { createServer, connect, type Socket } from "node:net";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { Readable } from "node:stream";
import { Upload } from "tus-js-client";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { expectSameAsInOneRequest } from "./support/resumable.ts";
import { startService, type TestService } from "./support/service.ts";
import { startServiceProcess } from "./support/service-process.ts";
import { createTestDatabase } from "./support/test-database.ts";
import { until } from "./support/until.ts";
import { chunk, infoChunk, sineWav, wavFile } from "./support/wav-maker.ts";

const given = { title: "A take", fileName: "take.wav" };

const start = `mutation ($fileName: String!, $sizeBytes: SafeInt, $key: UUID, $sha: String) {
  startUpload(fileName: $fileName, sizeBytes: $sizeBytes, idempotencyKey: $key, sourceSha256: $sha) {
    created upload { id url state offset sizeBytes expiresAt recording { id } failure { code } }
  }
}`;

/** A stereo take of 176 kB a second, which fades out: so the true peak is looked for at its beginning only. */
const take = (seconds: number): Buffer => {
  const wav = sineWav({ seconds, frequencyHz: 430, amplitude: 0.8, channels: 2, bits: 16 });
  const data = wav.subarray(wav.indexOf("data") + 8);
  for (let at = 0; at < data.length; at += 2) {
    data.writeInt16LE(Math.round(data.readInt16LE(at) * (1 - at / data.length)), at);
  }
  for (let at = 0; at < data.length; at += 4410 * 4) data.writeInt16LE(Math.round(20_000 * Math.sin(at)), at);
  return wavFile({ data, after: [infoChunk({ INAM: "A take" })] });
};

/** The beginning of a WAV with a chunk of this many bytes before its format. */
function junkBegins(bytes: number): Buffer {
  const head = Buffer.from("RIFF....WAVEJUNK....", "latin1");
  head.writeUInt32LE(bytes + 1000, 4);
  head.writeUInt32LE(bytes, 16);
  return head;
}

describe("a resumable upload", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;
  const wav = take(24);

  beforeAll(async () => {
    service = await startService();
    client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
  });
  afterAll(async () => await service[Symbol.asyncDispose]());

  const begin = async (variables: object = {}, user = ann): Promise<any> => {
    const answer = await client.run(start, { fileName: "take.wav", sizeBytes: wav.length, ...variables }, user);
    expect(answer.errors).toBeUndefined();
    return answer.data.startUpload;
  };

  it("goes on where it was, portion by portion, and has what one request would have", async () => {
    const { upload, created } = await begin();
    expect([created, upload.state, upload.offset, upload.recording]).toEqual([true, "OPEN", 0, null]);
    const portions = [0, 1, 11, 44, 47, 60_001, 3_000_003, 3_000_004, wav.length - 3, wav.length];
    for (const [at, from] of portions.slice(0, -2).entries()) {
      const answer = await patch(upload.url, wav.subarray(from, portions[at + 1]), from);
      expect(answer.status).toBe(204);
      expect(answer.headers.get("upload-offset")).toBe(String(portions[at + 1]));
      const head = await fetch(upload.url, { method: "HEAD" });
      expect(head.headers.get("upload-offset")).toBe(String(portions[at + 1]));
      expect(head.headers.get("upload-length")).toBe(String(wav.length));
    }
    const last = await patch(upload.url, wav.subarray(-3), wav.length - 3);
    expect(last.status).toBe(200);
    expect(last.headers.get("upload-offset")).toBe(String(wav.length));
    const { data } = await last.json();
    expect(data.upload).toMatchObject({ id: upload.id, state: "READY", offset: wav.length });
    await expectSameAsInOneRequest(client, ann, wav, data.upload.recording, given);
    // The answer can be had again.
    const again = await patch(upload.url, Buffer.alloc(0), wav.length);
    expect((await again.json()).data.upload.recording).toEqual(data.upload.recording);
  });

  it("takes what has arrived when its connection breaks", async () => {
    const { upload } = await begin();
    await cut(upload.url, wav, 0, 2_500_000);
    let offset = await offsetOf(upload.url);
    expect(offset).toBeGreaterThan(2_000_000);
    await cut(upload.url, wav.subarray(offset), offset, 1_000_000);
    expect(await offsetOf(upload.url)).toBeGreaterThan(offset);
    offset = await offsetOf(upload.url);
    const last = await patch(upload.url, wav.subarray(offset), offset);
    expect(last.status).toBe(200);
    await expectSameAsInOneRequest(client, ann, wav, (await last.json()).data.upload.recording, given);
  });

  it("needs no length before its last request", async () => {
    const { upload } = await begin({ sizeBytes: null });
    expect(upload.sizeBytes).toBeNull();
    expect((await patch(upload.url, wav.subarray(0, 1_000_000), 0)).status).toBe(204);
    const headers = { "upload-length": String(wav.length) };
    const last = await patch(upload.url, wav.subarray(1_000_000), 1_000_000, headers);
    expect(last.status).toBe(200);
    await expectSameAsInOneRequest(client, ann, wav, (await last.json()).data.upload.recording, given);
  });

  it("is the same upload with the same idempotency key", async () => {
    const key = "7d3a5c60-95ab-4d7e-9a2c-08f6c4a1b001";
    const first = await begin({ key });
    await patch(first.upload.url, wav.subarray(0, 500_000), 0);
    const second = await begin({ key });
    expect(second).toMatchObject({ created: false, upload: { id: first.upload.id, url: first.upload.url } });
    expect(second.upload.offset).toBe(500_000);
    const { data } = await client.run("{ me { uploads { id offset } } }", {}, ann);
    expect(data.me.uploads).toContainEqual({ id: first.upload.id, offset: 500_000 });
  });

  it("refuses a wrong offset and tells the right one", async () => {
    const { upload } = await begin();
    await patch(upload.url, wav.subarray(0, 100), 0);
    const answer = await patch(upload.url, wav.subarray(0, 100), 0);
    expect([answer.status, answer.headers.get("upload-offset")]).toEqual([409, "100"]);
    expect(await answer.json()).toMatchObject({ error: { code: "CONFLICT", offset: 100 } });
    expect(await offsetOf(upload.url)).toBe(100);
  });

  it("fails for good if the file is no WAV, and says so", async () => {
    const { upload } = await begin();
    const answer = await patch(upload.url, Buffer.from("This is a text and not a WAV at all."), 0);
    expect(answer.status).toBe(415);
    expect((await fetch(upload.url, { method: "HEAD" })).status).toBe(410);
    const query = "query ($id: ID!) { upload(id: $id) { state failure { code } recording { id } } }";
    const { data } = await client.run(query, { id: upload.id }, ann);
    expect(data.upload).toEqual({ state: "FAILED", failure: { code: "UNSUPPORTED_MEDIA" }, recording: null });
  });

  it("fails for good if the file has another SHA-256", async () => {
    const { upload } = await begin({ sha: "0".repeat(64) });
    const answer = await patch(upload.url, wav, 0);
    expect(answer.status).toBe(400);
    expect((await fetch(upload.url, { method: "HEAD" })).status).toBe(410);
  });

  it("fails for good if it has too much without sound, which would have to be stored", async () => {
    const { upload } = await begin({ sizeBytes: 1e9 });
    const answer = await patch(upload.url, Buffer.concat([junkBegins(9e8), Buffer.alloc(80e6)]), 0);
    expect([answer.status, (await answer.json()).error.code]).toEqual([415, "UNSUPPORTED_MEDIA"]);
    expect((await fetch(upload.url, { method: "HEAD" })).status).toBe(410);
  });

  it("counts what it stores of the file against what a new user may write", async () => {
    await using strict = await startService({ NEW_USER_BYTES_PER_DAY: "100000" });
    const theirs = new ApiClient(strict.url);
    const eve = await theirs.createUser("Eve");
    const { upload } = (await theirs.run(start, { fileName: "take.wav", sizeBytes: 1e9 }, eve)).data.startUpload;
    const answer = await patch(upload.url, Buffer.concat([junkBegins(9e8), Buffer.alloc(3e6)]), 0);
    expect([answer.status, await answer.text()]).toEqual([429, expect.stringContaining("RATE_LIMITED")]);
  });

  it("counts what its checkpoint takes, however large the texts of the file make it", async () => {
    const eve = await client.createUser("Eve");
    const { upload } = await begin({ sizeBytes: 1e9 }, eve);
    const labels = Array.from({ length: 900 }, (_, number) => {
      // Random, because checkpoints are compressed.
      const label = Buffer.from(`    ${randomBytes(600).toString("base64")}`);
      label.writeUInt32LE(number, 0);
      return chunk("labl", label);
    });
    const tags = chunk("LIST", Buffer.concat([Buffer.from("adtl"), ...labels]));
    const file = wavFile({ before: [tags], data: Buffer.alloc(6_000_000), dataSize: 9e8, size: 9e8 });
    const from = performance.now();
    expect((await patch(upload.url, file, 0)).status).toBe(204);
    const { pool } = service.server.database;
    const stored = async (): Promise<{ checkpoint: number; behind: number }> => {
      const { rows } = await pool.query(
        `select octet_length(state) + coalesce(octet_length(rest), 0) as checkpoint,
                (offset_bytes - checkpoint_bytes)::int as behind from resumable_upload where id = $1`,
        [upload.id],
      );
      return rows[0];
    };
    const { checkpoint, behind } = await until(stored, ({ checkpoint }) => checkpoint !== null);
    expect(checkpoint).toBeGreaterThan(500_000);
    const used = "select used_bytes from write_allowance where key = $1";
    const { rows } = await pool.query(used, [`user:${eve.id}`]);
    // The allowance refills while the test runs: 256 MiB a day.
    const refilled = ((performance.now() - from) / 86_400_000) * 256 * 2 ** 20;
    expect(rows[0].used_bytes + refilled).toBeGreaterThanOrEqual(checkpoint + behind);
    expect((await fetch(upload.url, { method: "DELETE" })).status).toBe(204);
  });

  it("counts what was stored at the second attempt", async () => {
    const eve = await client.createUser("Eve");
    const { upload } = await begin({ sizeBytes: 1e6 }, eve);
    const { pool } = service.server.database;
    await pool.query(`create sequence attempt;
      create function fail_once() returns trigger language plpgsql as $$ begin
        if nextval('attempt') = 1 then raise 'not now'; end if;
        return new;
      end $$;
      create trigger fail_once before insert on upload_piece for each row execute function fail_once()`);
    const file = wavFile({ data: Buffer.alloc(600_000), dataSize: 9e5, size: 1e6 });
    expect((await patch(upload.url, file, 0)).status).toBe(500);
    await pool.query("drop function fail_once cascade; drop sequence attempt");
    const head = await fetch(upload.url, { method: "HEAD", headers: { "tus-resumable": "1.0.0" } });
    expect(head.headers.get("upload-offset")).toBe(String(file.length));
    const used = "select used_bytes from write_allowance where key = $1";
    const { rows } = await pool.query(used, [`user:${eve.id}`]);
    // The allowance refills while the test runs.
    expect(rows[0].used_bytes).toBeGreaterThan(file.length * 0.98);
    expect((await fetch(upload.url, { method: "DELETE" })).status).toBe(204);
  });

  it("is not found at an address that nobody was given", async () => {
    for (const secret of ["nothing", "%00", "A".repeat(32), "%E2%82%AC"]) {
      const head = await fetch(`${service.url}/uploads/${secret}`, { method: "HEAD" });
      expect([secret, head.status]).toEqual([secret, 404]);
    }
  });

  it("can be cancelled, and then nothing is left", async () => {
    const { upload } = await begin();
    await patch(upload.url, wav.subarray(0, 2_000_000), 0);
    expect((await fetch(upload.url, { method: "DELETE" })).status).toBe(204);
    expect((await fetch(upload.url, { method: "HEAD" })).status).toBe(404);
    const other = await begin();
    const cancel = "mutation ($id: ID!) { cancelUpload(id: $id) { cancelledId } }";
    expect((await client.run(cancel, { id: other.upload.id }, ann)).data.cancelUpload.cancelledId).toBe(
      other.upload.id,
    );
    expect((await patch(other.upload.url, wav.subarray(0, 100), 0)).status).toBe(404);
  });

  it("ends with the token that started it, and with its user", async () => {
    const bob = await client.createUser("Bob");
    const mutation = `mutation { createToken(name: "phone", scopes: [UPLOAD]) { token accessToken { id } } }`;
    const { data } = await client.run(mutation, {}, bob);
    const { upload } = await begin({}, { id: bob.id, token: data.createToken.token });
    await patch(upload.url, wav.subarray(0, 500_000), 0);
    const revoke = "mutation ($id: ID!) { revokeToken(id: $id) { revokedId } }";
    expect((await client.run(revoke, { id: data.createToken.accessToken.id }, bob)).errors).toBeUndefined();
    expect((await patch(upload.url, wav.subarray(500_000), 500_000)).status).toBe(401);
    const { upload: other } = await begin({}, bob);
    await patch(other.url, wav.subarray(0, 500_000), 0);
    expect((await client.run('mutation { deleteUser(confirm: "Bob") { deletedId } }', {}, bob)).errors).toBeUndefined();
    expect((await patch(other.url, wav.subarray(500_000), 500_000)).status).toBe(404);
  });

  it("is sent by tus-js-client through a network that cuts every connection", async () => {
    await using proxy = await cuttingProxy(new URL(service.url).port, 700_000);
    const result = await sendWithTus(wav, `http://127.0.0.1:${proxy.port}/uploads`, ann);
    expect(proxy.cuts).toBeGreaterThan(3);
    expect(proxy.bytes).toBeLessThan(1.5 * wav.length);
    await expectSameAsInOneRequest(client, ann, wav, result.data.upload.recording, given);
  });

  it("is sent by tus-js-client in pieces of 500 KiB, and with its first request", async () => {
    const options = { chunkSize: 500 * 1024, uploadDataDuringCreation: true };
    const result = await sendWithTus(wav, `${service.url}/uploads`, ann, options);
    expect(result.data.upload.state).toBe("READY");
    await expectSameAsInOneRequest(client, ann, wav, result.data.upload.recording, given);
  });
});

describe("a resumable upload of several replicas", () => {
  const wav = take(40);

  it("is taken over from a replica that still receives it", async () => {
    await using database = await createTestDatabase();
    await using a = await startService({ DATABASE_URL: database.url });
    await using b = await startService({ DATABASE_URL: database.url });
    const client = new ApiClient(a.url);
    const ann = await client.createUser();
    const { upload } = (await client.run(start, { fileName: "take.wav", sizeBytes: wav.length }, ann)).data.startUpload;
    const atB = upload.url.replace(a.url, b.url);
    const body = new Readable({ read() {} });
    const hanging = patch(upload.url, body, 0).then(
      ({ status }) => status,
      () => "lost",
    );
    body.push(wav.subarray(0, 3_000_000));
    await until(async () => await isHeld(database.url), Boolean);
    const offset = await offsetOf(atB);
    expect(offset).toBeLessThanOrEqual(3_000_000);
    const last = await patch(atB, wav.subarray(offset), offset);
    expect(last.status).toBe(200);
    body.push(null);
    await hanging;
    await expectSameAsInOneRequest(client, ann, wav, (await last.json()).data.upload.recording, given);
  });

  it("goes on elsewhere after its replica was killed, and after another one slept", async () => {
    await using database = await createTestDatabase();
    const env = { DATABASE_URL: database.url, LOG_LEVEL: "info" };
    await using b = await startService({ DATABASE_URL: database.url });
    const client = new ApiClient(b.url);
    const ann = await client.createUser();
    const { upload } = (await client.run(start, { fileName: "take.wav", sizeBytes: wav.length }, ann)).data.startUpload;
    const secret = upload.url.split("/").at(-1);
    await patch(upload.url, wav.subarray(0, 1_234_567), 0);
    for (const signal of ["SIGKILL", "SIGSTOP"] as const) {
      await using a = await startServiceProcess(env);
      const offset = await offsetOf(upload.url);
      const body = new Readable({ read() {} });
      const lost = patch(`${a.url}/uploads/${secret}`, body, offset).then(
        () => "answered",
        () => "lost",
      );
      body.push(wav.subarray(offset, offset + 1_000_000));
      await until(async () => await isHeld(database.url), Boolean);
      a.child.kill(signal);
      const next = offset + 111_111;
      // What was told is kept.
      const told = await offsetOf(upload.url);
      expect(told).toBeGreaterThanOrEqual(offset);
      expect((await patch(upload.url, wav.subarray(told, Math.max(told, next)), told)).status).toBe(204);
      if (signal === "SIGSTOP") a.child.kill("SIGCONT");
      body.push(null);
      await lost;
      a.child.kill("SIGKILL");
      expect(a.log.join("\n")).not.toContain(secret);
    }
    const offset = await offsetOf(upload.url);
    const last = await patch(upload.url, wav.subarray(offset), offset);
    expect(last.status).toBe(200);
    await expectSameAsInOneRequest(client, ann, wav, (await last.json()).data.upload.recording, given);
  });

  it("survives a restart of its replica", async () => {
    await using database = await createTestDatabase();
    const a = await startService({ DATABASE_URL: database.url });
    const client = new ApiClient(a.url);
    const ann = await client.createUser();
    const { upload } = (await client.run(start, { fileName: "take.wav", sizeBytes: wav.length }, ann)).data.startUpload;
    const body = new Readable({ read() {} });
    const stopped = patch(upload.url, body, 0).then(
      ({ status }) => status,
      () => 503,
    );
    body.push(wav.subarray(0, 2_000_000));
    await until(async () => await isHeld(database.url), Boolean);
    const stopping = a[Symbol.asyncDispose]();
    expect(await stopped).toBe(503);
    body.destroy();
    await stopping;
    await using b = await startService({ DATABASE_URL: database.url });
    const atB = upload.url.replace(a.url, b.url);
    const offset = await offsetOf(atB);
    const last = await patch(atB, wav.subarray(offset), offset);
    expect(last.status).toBe(200);
    const later = new ApiClient(b.url);
    await expectSameAsInOneRequest(later, ann, wav, (await last.json()).data.upload.recording, given);
  });
});

async function patch(
  url: string,
  bytes: Buffer | Readable,
  offset: number,
  headers: Record<string, string> = {},
): Promise<Response> {
  const request = {
    method: "PATCH",
    headers: {
      "tus-resumable": "1.0.0",
      "content-type": "application/offset+octet-stream",
      "upload-offset": String(offset),
      ...headers,
    },
    body: bytes instanceof Readable ? (Readable.toWeb(bytes) as any) : new Uint8Array(bytes),
    duplex: "half",
  };
  return await fetch(url, request);
}

async function offsetOf(url: string): Promise<number> {
  const head = await fetch(url, { method: "HEAD", headers: { "tus-resumable": "1.0.0" } });
  expect(head.status).toBe(200);
  return Number(head.headers.get("upload-offset"));
}

/** Sends so many bytes of a portion and breaks the connection. */
async function cut(url: string, bytes: Buffer, offset: number, sent: number): Promise<void> {
  const { hostname, port, pathname } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.on("error", () => {});
  socket.write(
    `PATCH ${pathname} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nUpload-Offset: ${offset}\r\n` +
      `Content-Type: application/offset+octet-stream\r\nContent-Length: ${bytes.length}\r\n\r\n`,
  );
  await new Promise<void>((resolve) => socket.write(bytes.subarray(0, sent), () => resolve()));
  socket.end();
  socket.resume();
  await once(socket, "close");
}

interface Proxy extends AsyncDisposable {
  readonly port: number;
  readonly cuts: number;
  /** Bytes that the client has sent. */
  readonly bytes: number;
}

/** Passes connections on, and cuts each after so many bytes from the client. */
async function cuttingProxy(target: string, afterBytes: number): Promise<Proxy> {
  let cuts = 0;
  let sent = 0;
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(Number(target), "127.0.0.1");
    let bytes = 0;
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => sockets.delete(socket));
    }
    client.on("data", (data: Buffer) => {
      bytes += data.length;
      sent += data.length;
      if (!upstream.write(data)) {
        client.pause();
        upstream.once("drain", () => client.resume());
      }
      if (bytes < afterBytes) return;
      cuts += 1;
      client.destroy();
      upstream.end();
    });
    upstream.pipe(client);
    client.on("close", () => upstream.end());
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  return {
    port: typeof address === "object" ? address!.port : 0,
    get cuts() {
      return cuts;
    },
    get bytes() {
      return sent;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

async function sendWithTus(wav: Buffer, endpoint: string, user: Credentials, options: object = {}): Promise<any> {
  const done = Promise.withResolvers<any>();
  const upload = new Upload(wav, {
    endpoint,
    retryDelays: Array.from({ length: 200 }, () => 50),
    metadata: { filename: "take.wav" },
    headers: { authorization: `Bearer ${user.token}` },
    onError: (error) => done.reject(error),
    onSuccess: ({ lastResponse }) => done.resolve(JSON.parse(lastResponse.getBody())),
    ...options,
  });
  upload.start();
  return await done.promise;
}

async function isHeld(databaseUrl: string): Promise<boolean> {
  const { Client } = (await import("pg")).default;
  const database = new Client(databaseUrl);
  await database.connect();
  try {
    const { rows } = await database.query("select 1 from resumable_upload where holder is not null");
    return rows.length > 0;
  } finally {
    await database.end();
  }
}
