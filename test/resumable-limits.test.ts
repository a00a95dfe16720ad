import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { setImmediate } from "node:timers/promises";
import { serialize, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { startEmbeddedPostgres } from "../src/database/embedded/embedded-postgres.ts";
import { createLogger } from "../src/telemetry/logger.ts";
import { createUser } from "../src/user/create-user.ts";
import { changeHeld, forgetExpiredUploads } from "../src/upload/resumable-uploads.ts";
import { UploadLeases } from "../src/upload/upload-leases.ts";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { startDatabaseProxy } from "./support/database-proxy.ts";
import { listProcesses } from "./support/processes.ts";
import { append, begin, expectSameAsInOneRequest, offsetOf, take, tus } from "./support/resumable.ts";
import { SentStatements } from "./support/sent-statements.ts";
import { HeldDeletions } from "./support/held-deletions.ts";
import { startService, type TestService } from "./support/service.ts";
import { createTestDatabase } from "./support/test-database.ts";
import { beginTransaction } from "./support/transaction.ts";
import { openTestDatabase } from "./support/test-database.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

const codeOf = async (answer: Response): Promise<[number, string]> => [
  answer.status,
  (await answer.json()).error.code as string,
];

const base64 = (text: string): string => Buffer.from(text).toString("base64");

describe("a resumable upload, like one in a single request,", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;
  const wav = take(20);

  beforeAll(async () => {
    service = await startService();
    client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
  });
  afterAll(async () => await service[Symbol.asyncDispose]());

  const sql = async (text: string, values: unknown[] = []) => await service.server.database.pool.query(text, values);

  const newToken = async (scopes: string, user = ann): Promise<Credentials & { readonly tokenId: string }> => {
    const mutation = `mutation { createToken(name: "x", scopes: [${scopes}]) { token accessToken { id } } }`;
    const { token, accessToken } = (await client.run(mutation, {}, user)).data.createToken;
    return { id: user.id, token, tokenId: accessToken.id };
  };

  const ticketOf = async (args = "", user = ann): Promise<{ ticket: string; ticketId: string }> =>
    (await client.run(`mutation { createUploadTicket${args} { ticket ticketId } }`, {}, user)).data.createUploadTicket;

  const startWith = async (ticket: string, args = "") =>
    await client.run(
      `mutation { startUpload(fileName: "take.wav", ticket: "${ticket}"${args}) { created upload { id url state } } }`,
    );

  /** A request that has sent some bytes and waits for more. */
  const startSending = async (url: string, bytes: Buffer, offset = 0) => {
    const body = new Readable({ read() {} });
    const answer = append(url, body, offset);
    body.push(bytes);
    const id = await until(
      async () =>
        (await sql("select id from resumable_upload where secret = $1 and holder is not null", [url.split("/").at(-1)]))
          .rows[0],
      Boolean,
    );
    expect(id).toBeDefined();
    return {
      answer,
      send(rest: Buffer): void {
        body.push(rest);
        body.push(null);
      },
    };
  };

  describe("and the scopes of tokens:", () => {
    it("READ alone does not learn where bytes can be sent", async () => {
      const upload = await begin(client, ann, { sizeBytes: wav.length });
      const query = "query ($id: ID!) { upload(id: $id) { id url } me { uploads { id url } } }";
      const read = (await client.run(query, { id: upload.id }, await newToken("READ"))).data;
      expect(read.upload).toEqual({ id: upload.id, url: null });
      expect(read.me.uploads).toContainEqual({ id: upload.id, url: null });
      const both = (await client.run(query, { id: upload.id }, await newToken("READ, WRITE"))).data;
      expect(both.upload).toEqual({ id: upload.id, url: upload.url });
      expect(both.me.uploads).toContainEqual({ id: upload.id, url: upload.url });
    });

    it("UPLOAD alone sees, gives up and continues only what the same token has started", async () => {
      const [mine, other] = [await newToken("UPLOAD"), await newToken("UPLOAD")];
      const key = "7d3a5c60-95ab-4d7e-9a2c-08f6c4a1b077";
      const upload = await begin(client, mine, { sizeBytes: wav.length, key });
      const query = "query ($id: ID!) { upload(id: $id) { url } }";
      const cancel = "mutation ($id: ID!) { cancelUpload(id: $id) { cancelledId } }";
      expect((await client.run(query, { id: upload.id }, mine)).data.upload).toEqual({ url: upload.url });
      expect((await client.run(query, { id: upload.id }, other)).data.upload).toBeNull();
      expect((await client.run(cancel, { id: upload.id }, other)).errors![0]!.extensions.code).toBe("NOT_FOUND");
      const again =
        'mutation ($key: UUID) { startUpload(fileName: "take.wav", idempotencyKey: $key) { upload { url } } }';
      const refused = (await client.run(again, { key }, other)).errors![0]!;
      expect([refused.extensions.code, JSON.stringify(refused)]).toEqual([
        "CONFLICT",
        expect.not.stringContaining(upload.id),
      ]);
      expect((await client.run(cancel, { id: upload.id }, mine)).data.cancelUpload).toEqual({ cancelledId: upload.id });
    });

    it("whoever was started by the operator or an identity provider has its recording, too", async () => {
      const upload = await begin(client, ann, { sizeBytes: wav.length });
      await sql("update resumable_upload set token_id = null where id = $1", [upload.id]);
      const answer = await append(upload.url, wav, 0);
      expect((await answer.json()).data.upload.recording).toMatchObject({ id: upload.id, title: "A take" });
    });
  });

  describe("with a ticket,", () => {
    const create = async (headers: Record<string, string>, metadata: Record<string, string>): Promise<Response> => {
      const pairs = Object.entries(metadata).map(([name, value]) => `${name} ${base64(value)}`);
      return await tus(`${service.url}/uploads`, {
        method: "POST",
        headers: { ...headers, "upload-metadata": pairs.join(",") },
      });
    };
    const length = { "upload-length": String(wav.length) };

    it("is stored for its maker, once, as the ticket decides", async () => {
      const { ticket } = await ticketOf('(title: "For Ann", quality: LOW, visibility: PRIVATE)');
      const created = await create(length, { filename: "take.wav", ticket });
      expect(created.status).toBe(201);
      const url = created.headers.get("location")!;
      const { recording } = (await (await append(url, wav, 0)).json()).data.upload;
      expect(recording).toMatchObject({ title: "For Ann", visibility: "PRIVATE" });
      // Whoever has the ticket gets the same upload again, and no other door takes it.
      const again = (await startWith(ticket)).data.startUpload;
      expect(again).toEqual({ created: false, upload: { id: recording.id, url, state: "READY" } });
      const other = await client.uploadRecord(undefined, take(1), { args: `, ticket: "${ticket}"`, fileName: "b.wav" });
      expect(other.errors![0]!.extensions.code).toBe("CONFLICT");
      const { rows } = await sql("select used_at is not null as used from upload_ticket where sha256 = sha256($1)", [
        Buffer.from(ticket),
      ]);
      expect(rows).toEqual([{ used: true }]);
    });

    it("is refused where the ticket decides, and if there is no such ticket", async () => {
      const { ticket } = await ticketOf('(title: "For Ann")');
      expect(await codeOf(await create(length, { title: "Mine", ticket }))).toEqual([400, "BAD_USER_INPUT"]);
      const unknown = { ticket: "00000000-0000-4000-8000-000000000000" };
      expect(await codeOf(await create(length, unknown))).toEqual([401, "UNAUTHENTICATED"]);
      expect((await startWith(unknown.ticket)).errors![0]!.extensions.code).toBe("UNAUTHENTICATED");
    });

    it("is not larger than the ticket allows, whether it says so or not", async () => {
      const { ticket } = await ticketOf("(maxBytes: 1000000)");
      expect(await codeOf(await create(length, { ticket }))).toEqual([413, "UPLOAD_TOO_LARGE"]);
      const created = await create({ "upload-defer-length": "1" }, { ticket });
      const answer = await append(created.headers.get("location")!, wav, 0);
      expect(await codeOf(answer)).toEqual([413, "UPLOAD_TOO_LARGE"]);
    });

    it("is not larger than the operator allows, whatever the ticket does", async () => {
      await using own = await startService({ MAX_UPLOAD_BYTES: "1000000" });
      const theirs = new ApiClient(own.url);
      const make = "mutation { createUploadTicket(maxBytes: 100000000) { ticket } }";
      const { ticket } = (await theirs.run(make, {}, await theirs.createUser())).data.createUploadTicket;
      const start = `mutation { startUpload(fileName: "take.wav", ticket: "${ticket}") { upload { url } } }`;
      const { url } = (await theirs.run(start)).data.startUpload.upload;
      expect(await codeOf(await append(url, wav, 0))).toEqual([413, "UPLOAD_TOO_LARGE"]);
    });

    it("ends with the ticket", async () => {
      const { ticket, ticketId } = await ticketOf();
      const { url } = (await startWith(ticket)).data.startUpload.upload;
      expect((await append(url, wav.subarray(0, 1_000_000), 0)).status).toBe(204);
      const sending = await startSending(url, wav.subarray(1_000_000, 2_000_000), 1_000_000);
      const revoke = "mutation ($id: ID!) { revokeUploadTicket(id: $id) { revokedId } }";
      expect((await client.run(revoke, { id: ticketId }, ann)).errors).toBeUndefined();
      sending.send(Buffer.alloc(0));
      await sending.answer;
      const rest = await append(url, wav.subarray(2_000_000), 2_000_000);
      expect(await codeOf(rest)).toEqual([401, "UNAUTHENTICATED"]);
    });
  });

  describe("when its recording is ready, answers a repeated last request", () => {
    const short = take(1);

    /** The status of such an answer before and after a change. */
    const statusesAround = async (url: string, change: () => Promise<unknown>): Promise<number[]> => {
      const repeat = async () => (await append(url, Buffer.alloc(0), short.length)).status;
      await append(url, short, 0, { "upload-length": String(short.length) });
      const before = await repeat();
      await change();
      return [before, await repeat()];
    };

    it("until its token is revoked", async () => {
      const token = await newToken("UPLOAD");
      const { url } = await begin(client, token, {});
      const revoke = `mutation { revokeToken(id: "${token.tokenId}") { revokedId } }`;
      expect(await statusesAround(url, async () => await client.run(revoke, {}, ann))).toEqual([200, 401]);
    });

    it("until its ticket is revoked", async () => {
      const { ticket, ticketId } = await ticketOf();
      const { url } = (await startWith(ticket)).data.startUpload.upload;
      const revoke = `mutation { revokeUploadTicket(id: "${ticketId}") { revokedId } }`;
      expect(await statusesAround(url, async () => await client.run(revoke, {}, ann))).toEqual([200, 401]);
    });

    it("until its user is disabled", async () => {
      const bob = await client.createUser("Bob");
      const { url } = await begin(client, bob, {});
      const disable = async () => await sql("update app_user set disabled_at = now() where id = $1", [bob.id]);
      expect(await statusesAround(url, disable)).toEqual([200, 403]);
    });
  });

  describe("ends in the middle of a request", () => {
    /** Sends the last part of a file after `change`. */
    const finishAfter = async (user: Credentials, change: (id: string) => Promise<unknown>): Promise<Response> => {
      const upload = await begin(client, user, { sizeBytes: wav.length });
      const sending = await startSending(upload.url, wav.subarray(0, -1000));
      await change(upload.id);
      sending.send(wav.subarray(-1000));
      const answer = await sending.answer;
      const { rows } = await sql("select 1 from audio_record where id = $1 and state = 'ready'", [upload.id]);
      expect(rows).toEqual([]);
      return answer;
    };

    it("if its token was revoked", async () => {
      const token = await newToken("UPLOAD");
      const revoke = "mutation ($id: ID!) { revokeToken(id: $id) { revokedId } }";
      const answer = await finishAfter(token, async () => await client.run(revoke, { id: token.tokenId }, ann));
      expect(await codeOf(answer)).toEqual([401, "UNAUTHENTICATED"]);
    });

    it("if its user was deleted", async () => {
      const bob = await client.createUser("Bob");
      const answer = await finishAfter(
        bob,
        async () => await client.run('mutation { deleteUser(confirm: "Bob") { deletedId } }', {}, bob),
      );
      expect([401, 404, 409]).toContain(answer.status);
    });

    it("if it was cancelled", async () => {
      const cancel = "mutation ($id: ID!) { cancelUpload(id: $id) { cancelledId } }";
      const answer = await finishAfter(ann, async (id) => await client.run(cancel, { id }, ann));
      expect([404, 409]).toContain(answer.status);
    });

    it("if its user has no room left", async () => {
      const eve = await client.createUser("Eve");
      const answer = await finishAfter(
        eve,
        async () => await sql("update app_user set quota_seconds = 1 where id = $1", [eve.id]),
      );
      expect(await codeOf(answer)).toEqual([403, "QUOTA_EXCEEDED"]);
    });
  });

  it("is refused by a user who was disabled, and goes on when that is over", async () => {
    const eve = await client.createUser("Eve");
    const upload = await begin(client, eve, { sizeBytes: wav.length });
    await append(upload.url, wav.subarray(0, 1000), 0);
    await sql("update app_user set disabled_at = now() where id = $1", [eve.id]);
    expect(await codeOf(await append(upload.url, wav.subarray(1000), 1000))).toEqual([403, "USER_DISABLED"]);
    await sql("update app_user set disabled_at = null where id = $1", [eve.id]);
    expect((await append(upload.url, wav.subarray(1000), 1000)).status).toBe(200);
  });

  it("counts with what the others have stored against the quota of its user", async () => {
    const eve = await client.createUser("Eve");
    await sql("update app_user set quota_bytes = 300000 where id = $1", [eve.id]);
    const [first, second] = [await begin(client, eve, {}), await begin(client, eve, {})];
    expect((await append(first.url, wav.subarray(0, 3_000_000), 0)).status).toBe(204);
    const refused = await append(second.url, wav, 0, { "upload-length": String(wav.length) });
    expect(await codeOf(refused)).toEqual([403, "QUOTA_EXCEEDED"]);
    // It can go on without the other one.
    expect((await tus(first.url, { method: "DELETE" })).status).toBe(204);
    expect((await append(second.url, wav.subarray(0, 1000), 0)).status).toBe(204);
  });

  it("waits while the disk is full, and goes on when there is room", async () => {
    await using full = await startService({ DATABASE_URL: service.databaseUrl, MAX_DATABASE_BYTES: "1" });
    const upload = await begin(client, ann, { sizeBytes: wav.length });
    await append(upload.url, wav.subarray(0, 1_000_000), 0);
    const atFull = upload.url.replace(service.url, full.url);
    const answer = await append(atFull, wav.subarray(1_000_000), 1_000_000);
    expect(await codeOf(answer)).toEqual([507, "STORAGE_FULL"]);
    expect(await offsetOf(upload.url)).toBe(1_000_000);
    const last = await append(upload.url, wav.subarray(1_000_000), 1_000_000);
    expect(last.status).toBe(200);
    await expectSameAsInOneRequest(client, ann, wav, (await last.json()).data.upload.recording);
  });

  it("cannot be open more than a hundred times, but those can go on", async () => {
    const eve = await client.createUser("Eve");
    const key = "7d3a5c60-95ab-4d7e-9a2c-08f6c4a1b099";
    const first = await begin(client, eve, { key });
    for (let i = 1; i < 100; i++) {
      await sql(
        `with r as (insert into audio_record (id, owner_id, state, lease_until, title, file_name, chunk_bytes, visibility)
           values (gen_random_uuid(), $1, 'receiving', now() + interval '1 day', '', 'x', 1, 'PUBLIC') returning id)
         insert into resumable_upload (id, owner_id, record_id, secret, title, quality, expires_at)
           select id, $1, id, gen_random_uuid()::text, '', 'LOW', now() + interval '1 day' from r`,
        [eve.id],
      );
    }
    const start = 'mutation { startUpload(fileName: "a.wav") { upload { id } } }';
    expect((await client.run(start, {}, eve)).errors![0]!.extensions).toMatchObject({ code: "CONFLICT", max: 100 });
    expect((await client.run("{ me { uploads { id } } }", {}, eve)).data.me.uploads).toHaveLength(100);
    expect((await begin(client, eve, { key })).id).toBe(first.id);
  });

  it("is forgotten when it has expired, with everything that was stored", async () => {
    await using own = await startService();
    const theirs = new ApiClient(own.url);
    const eve = await theirs.createUser("Eve");
    const upload = await begin(theirs, eve, { sizeBytes: wav.length });
    await append(upload.url, wav.subarray(0, 3_000_000), 0);
    const { pool } = own.server.database;
    await pool.query("update resumable_upload set expires_at = now() - interval '1 s', holder = null");
    await pool.query("update audio_record set lease_until = now() - interval '1 s'");
    expect((await tus(upload.url, { method: "HEAD" })).status).toBe(404);
    expect((await append(upload.url, wav.subarray(3_000_000), 3_000_000)).status).toBe(404);
    // One that starts deletes the uploads; recordings are deleted by one that has reached the database for a whole lease.
    await using _later = await startService({ DATABASE_URL: own.databaseUrl });
    await using leases = new UploadLeases(own.server.database.em, createLogger({ logLevel: "silent" }), 0);
    await leases.sweep();
    const left = await until(
      async () =>
        (await pool.query("select id::text from audio_record union all select id::text from resumable_upload")).rows,
      (rows) => rows.length === 0,
    );
    expect(left).toEqual([]);
    expect((await pool.query("select 1 from mp3_chunk union all select 1 from upload_piece")).rows).toEqual([]);
  });

  it("is forgotten in small parts, of which a stop waits for one", async () => {
    await using database = await openTestDatabase();
    const { em, pool } = database;
    const { user: eve } = await createUser(em, "Eve");
    await pool.query(
      `insert into resumable_upload (id, owner_id, secret, title, quality, expires_at)
       select gen_random_uuid(), $1, gen_random_uuid()::text, '', 'LOW', now() - interval '1 s' from generate_series(1, 45)`,
      [eve.id],
    );
    const left = async () => (await pool.query("select from resumable_upload")).rowCount;
    const deletions = await HeldDeletions.of(pool, "resumable_upload");
    const stopping = new AbortController();
    const forgetting = forgetExpiredUploads(em.fork(), stopping.signal);
    await deletions.one();
    stopping.abort();
    await deletions.letGo();
    await forgetting;
    expect(await left()).toBe(25);
    await forgetExpiredUploads(em.fork(), new AbortController().signal);
    expect(await left()).toBe(0);
  });

  describe("while a request sends bytes, however long that takes,", () => {
    /** Sends a file whose request lasts until it was to expire soon, and then did not. Returns the status of its answer. */
    const sendForLong = async (user: Credentials, isProlonged: string): Promise<number> => {
      const upload = await begin(client, user, { sizeBytes: wav.length });
      const expireSoon = async (): Promise<void> => {
        await sql("update audio_record set lease_until = now() + interval '10 s' where id = $1", [upload.id]);
        await sql("update resumable_upload set expires_at = now() + interval '10 s' where id = $1", [upload.id]);
      };
      const prolonged = async () =>
        await until(
          async () =>
            (
              await sql(
                `select from resumable_upload u join audio_record r on r.id = u.id left join access_token t on t.id = token_id
                 where u.id = $1 and lease_until = u.expires_at and ${isProlonged}`,
                [upload.id],
              )
            ).rows.length,
          (rows) => rows === 1,
        );
      await expireSoon();
      const sending = await startSending(upload.url, wav.subarray(0, 1000));
      expect(await prolonged()).toBe(1); // its beginning does that, too
      await expireSoon();
      expect(await prolonged()).toBe(1);
      sending.send(wav.subarray(1000));
      return (await sending.answer).status;
    };

    it("does not expire", async () => {
      expect(await sendForLong(ann, "u.expires_at > now() + interval '1 hour'")).toBe(200);
    });

    it("expires with its token", async () => {
      const token = await newToken("UPLOAD");
      await sql("update access_token set expires_at = now() + interval '1 hour' where id = $1", [token.tokenId]);
      const expiresWithToken = "abs(extract(epoch from t.expires_at - u.expires_at)) < 0.01";
      expect(await sendForLong(token, expiresWithToken)).toBe(200);
    });
  });

  it("is not forgotten as long as its holder is alive", async () => {
    const { id } = await begin(client, ann, { sizeBytes: wav.length });
    const isThere = async (change: string): Promise<boolean> => {
      await sql(`update resumable_upload set ${change} where id = $1`, [id]);
      await forgetExpiredUploads(service.server.database.em.fork(), new AbortController().signal);
      return (await sql("select from resumable_upload where id = $1", [id])).rows.length > 0;
    };
    const expired = "expires_at = now() - interval '1 s', holder = gen_random_uuid()";
    expect(await isThere(`${expired}, seen_at = now() + interval '1 minute'`)).toBe(true);
    expect(await isThere("seen_at = now() - interval '1 minute'")).toBe(false);
  });

  it("has to start again if another version of the service has begun it", async () => {
    const key = "7d3a5c60-95ab-4d7e-9a2c-08f6c4a1b0aa";
    const upload = await begin(client, ann, { sizeBytes: wav.length, key });
    const earlier = Buffer.concat([Buffer.of(1), serialize({})]);
    await sql("update resumable_upload set state = $2 where id = $1", [upload.id, earlier]);
    const refused = await append(upload.url, wav, 0);
    const { error } = await refused.json();
    expect([refused.status, error.code, error.message]).toEqual([
      410,
      "GONE",
      expect.stringMatching(/ Start a new one\.$/),
    ]);
    expect(await codeOf(await append(upload.url, wav, 0))).toEqual([410, "GONE"]);
    expect((await tus(upload.url, { method: "HEAD" })).status).toBe(410);
    const next = await begin(client, ann, { sizeBytes: wav.length, key });
    expect((await append(next.url, wav, 0)).status).toBe(200);
  });

  it("has to start again if the database has lost a row of it", async () => {
    const long = sineWav({ seconds: 240, channels: 1, sampleRateHz: 22_050 });
    const upload = await begin(client, ann, { sizeBytes: long.length });
    const half = long.length - 500_000;
    expect((await append(upload.url, long.subarray(0, half), 0)).status).toBe(204);
    const { rowCount } = await sql("delete from mp3_chunk where record_id = $1 and position = 1", [upload.id]);
    expect(rowCount).toBe(1);
    expect(await codeOf(await append(upload.url, long.subarray(half), half))).toEqual([410, "GONE"]);
    expect((await tus(upload.url, { method: "HEAD" })).status).toBe(410);
    expect((await sql("select from audio_record where id = $1", [upload.id])).rows).toEqual([]);
  });

  it("is held by nobody after a portion that could not be stored", async () => {
    await using own = await startService({ NEW_USER_BYTES_PER_DAY: "100000" });
    const theirs = new ApiClient(own.url);
    const upload = await begin(theirs, await theirs.createUser(), {});
    const refused = await append(upload.url, take(8).subarray(0, 1_200_000), 0);
    expect(await codeOf(refused)).toEqual([429, "RATE_LIMITED"]);
    const { rows } = await own.server.database.pool.query("select holder from resumable_upload");
    expect(rows).toEqual([{ holder: null }]);
  });

  it("is held by nobody after a portion that begins at a byte of its own", async () => {
    const upload = await begin(client, ann, { sizeBytes: wav.length });
    expect(await codeOf(await append(upload.url, wav.subarray(5, 1000), 5))).toEqual([409, "CONFLICT"]);
    const { pool } = service.server.database;
    const { rows } = await pool.query("select holder from resumable_upload where id = $1", [upload.id]);
    expect(rows).toEqual([{ holder: null }]);
  });

  it("converts nothing for a request without bytes", async () => {
    const upload = await begin(client, ann, { sizeBytes: wav.length });
    await append(upload.url, wav.subarray(0, 900_000), 0);
    using statements = new SentStatements(service.server.database.pool);
    const answer = await append(upload.url, Buffer.alloc(0), 900_000);
    expect([answer.status, answer.headers.get("upload-offset")]).toEqual([204, "900000"]);
    expect(
      statements.take().filter((text) => /^(?:update "resumable_upload"|insert )|upload_piece/.test(text)),
    ).toEqual([]);
  });

  it("keeps nothing in memory when it is complete", async () => {
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    const held = async (): Promise<number> => {
      await setImmediate();
      collect();
      return process.memoryUsage().arrayBuffers;
    };
    const eve = await client.createUser("Eve");
    const sendAll = async (): Promise<void> => {
      const { url } = await begin(client, eve, { sizeBytes: wav.length });
      expect((await append(url, wav, 0)).status).toBe(200);
    };
    await sendAll();
    const before = await held();
    for (let i = 0; i < 15; i++) await sendAll();
    // The files have 53 MB; the pools may keep 19 MB for the next ones. The last upload may end after its answer.
    const most = 21_000_000;
    const more = await until(
      async () => (await held()) - before,
      (bytes) => bytes < most,
    );
    expect(more).toBeLessThan(most);
  });

  it.each<[string, Record<string, string>, number]>([
    ["no length", {}, 400],
    ["a length that is no number", { "upload-length": "-1" }, 400],
    ["a length of 0", { "upload-length": "0" }, 400],
    ["a huge length", { "upload-length": "9000000000000000" }, 413],
    [
      "more metadata than a header can have",
      { "upload-length": "9", "upload-metadata": `title ${"A".repeat(40_000)}` },
      431,
    ],
    ["a key that is none", { "upload-length": "9", "upload-metadata": `idempotencyKey ${base64("1")}` }, 400],
    ["a quality that is none", { "upload-length": "9", "upload-metadata": `quality ${base64("loud")}` }, 400],
    ["another version", { "upload-length": "9", "tus-resumable": "0.2.2" }, 412],
  ])("is not begun with %s", async (_what, headers, status) => {
    const answer = await tus(`${service.url}/uploads`, {
      method: "POST",
      headers: { authorization: `Bearer ${ann.token}`, ...headers },
    });
    expect(answer.status).toBe(status);
  });

  it("is not found once its recording was deleted", async () => {
    const { url, id } = await begin(client, ann, { sizeBytes: wav.length });
    await append(url, wav.subarray(0, 500_000), 0);
    await sql("delete from audio_record where id = $1", [id]);
    await sql("update resumable_upload set holder = null where id = $1", [id]);
    expect(await codeOf(await append(url, wav.subarray(500_000), 500_000))).toEqual([404, "NOT_FOUND"]);
  });

  it("is completed by an empty request if its last one was lost after the length was stored", async () => {
    const { url, id } = await begin(client, ann, {});
    expect((await append(url, wav, 0)).status).toBe(204);
    const isFree = async () => (await sql("select from resumable_upload where id = $1 and holder is null", [id])).rows;
    expect(await until(isFree, ({ length }) => length > 0)).toHaveLength(1);
    await sql("update resumable_upload set length_bytes = offset_bytes where id = $1", [id]);
    const answer = await append(url, Buffer.alloc(0), wav.length);
    expect(answer.status).toBe(200);
    await expectSameAsInOneRequest(client, ann, wav, (await answer.json()).data.upload.recording);
  });

  it("has no recording of another token's upload in one request, nor of one that is under way", async () => {
    const [mine, other] = [await newToken("UPLOAD"), await newToken("UPLOAD")];
    const key = "7d3a5c60-95ab-4d7e-9a2c-08f6c4a1b0bb";
    const fields = `, idempotencyKey: "${key}"`;
    const { id } = (await client.uploadRecord(mine, take(1), { args: fields })).data.uploadRecord.record;
    const start = `mutation { startUpload(fileName: "take.wav", idempotencyKey: "${key}") { created } }`;
    const refusalOf = async (user: Credentials) => (await client.run(start, {}, user)).errors![0]!.extensions;
    expect(await refusalOf(mine)).toMatchObject({ code: "CONFLICT", recordId: id });
    expect(await refusalOf(ann)).toMatchObject({ code: "CONFLICT", recordId: id });
    expect(await refusalOf(other)).toEqual(expect.not.objectContaining({ recordId: expect.anything() }));
    await sql("update audio_record set state = 'receiving', lease_until = now() + interval '1 h' where id = $1", [id]);
    expect(await refusalOf(mine)).toEqual(expect.not.objectContaining({ recordId: expect.anything() }));
  });

  it("is the same upload if it is started twice at the same moment", async () => {
    const key = "7d3a5c60-95ab-4d7e-9a2c-08f6c4a1b0cc";
    await using other = await beginTransaction(service.databaseUrl, "lock table resumable_upload in share mode");
    const started = [begin(client, ann, { key }), begin(client, ann, { key })];
    expect(await other.untilWaiting(2)).toBeGreaterThanOrEqual(2);
    await other.commit();
    const [one, same] = await Promise.all(started);
    expect(same).toEqual(one);
  });

  it("is cancelled although its recording is just being completed", async () => {
    const upload = await begin(client, ann, { sizeBytes: wav.length });
    const completion = "update audio_record set title = 'A take' where id = $1";
    await using completing = await beginTransaction(service.databaseUrl, completion, [upload.id]);
    const cancelling = tus(upload.url, { method: "DELETE" });
    expect(await completing.untilWaiting(1)).toBeGreaterThanOrEqual(1);
    await completing.query("update resumable_upload set offset_bytes = $2 where id = $1", [upload.id, wav.length]);
    await completing.commit();
    expect((await cancelling).status).toBe(204);
  });

  it("stays complete although the answer to its completion was lost", async () => {
    const { url, id } = await begin(client, ann, { sizeBytes: wav.length });
    expect((await append(url, wav, 0)).status).toBe(200);
    // Whoever does not know that it is complete pauses it, so that its last byte comes again.
    const pausing = changeHeld(service.server.database.em.fork(), { id, epoch: 1 }, { offsetBytes: wav.length - 1 });
    await expect(pausing).rejects.toMatchObject({ code: "CONFLICT" });
    expect(await offsetOf(url)).toBe(wav.length);
  });

  it("is not found if it is cancelled while a portion begins", async () => {
    const { url, id } = await begin(client, ann, { sizeBytes: wav.length });
    await sql(
      `create function cancel_claimed() returns trigger language plpgsql as $$
       begin delete from audio_record where id = new.id; return null; end $$`,
    );
    await sql(
      `create trigger cancel_claimed after update on resumable_upload for each row when (new.id = '${id}')
       execute function cancel_claimed()`,
    );
    expect(await codeOf(await append(url, wav, 0))).toEqual([404, "NOT_FOUND"]);
    await sql("drop function cancel_claimed cascade");
  });

  it("takes no more bytes than it was started with", async () => {
    const upload = await begin(client, ann, { sizeBytes: 500_000 });
    expect(await codeOf(await append(upload.url, wav, 0))).toEqual([413, "UPLOAD_TOO_LARGE"]);
  });
});

describe("the limits of the operator hold for resumable uploads:", () => {
  let service: TestService;
  let client: ApiClient;
  const [wav, second] = [take(5), sineWav({ seconds: 1, channels: 2 })];

  beforeAll(async () => {
    service = await startService({
      MAX_UPLOADS_PER_USER: "1",
      QUEUE_TIMEOUT_SECONDS: "3",
      MAX_UPLOADS_PER_HOUR: "6",
      MAX_SMALL_PORTIONS_PER_MINUTE: "8",
      RESUMABLE_UPLOAD_SECONDS: "300",
    });
    client = new ApiClient(service.url);
  });
  afterAll(async () => await service[Symbol.asyncDispose]());

  it("so many can be begun in an hour, however they are", async () => {
    const bob = await client.createUser("Bob");
    const headers = { authorization: `Bearer ${bob.token}`, "upload-length": "9" };
    for (let i = 0; i < 6; i++) {
      expect((await tus(`${service.url}/uploads`, { method: "POST", headers })).status).toBe(201);
    }
    const refused = await tus(`${service.url}/uploads`, { method: "POST", headers });
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(await codeOf(refused)).toEqual([429, "RATE_LIMITED"]);
    const start = 'mutation { startUpload(fileName: "a.wav") { upload { id } } }';
    expect((await client.run(start, {}, bob)).errors![0]!.extensions.code).toBe("RATE_LIMITED");
  });

  /** Begins as many uploads as a user can have under way, and returns what ends them. */
  const takeAllPlaces = async (user: Credentials): Promise<() => void> => {
    const bodies: Readable[] = [];
    const underWay = "select count(*)::int as count from resumable_upload where owner_id = $1 and holder is not null";
    const isUnderWay = async () => (await service.server.database.pool.query(underWay, [user.id])).rows[0].count;
    expect(await until(isUnderWay, (count) => count === 0)).toBe(0);
    for (let i = 1; i <= 4; i++) {
      const { url } = await begin(client, user, {});
      const body = new Readable({ read() {} });
      bodies.push(body);
      append(url, body, 0).catch(() => {});
      body.push(second);
      // The next one has a place when this one waits for its client.
      expect(await until(isUnderWay, (count) => count === i)).toBe(i);
    }
    return () => {
      for (const body of bodies) body.destroy();
    };
  };

  it("so many of one user can be under way, and the next one can go on when there is a place", async () => {
    const eve = await client.createUser("Eve");
    const endOthers = await takeAllPlaces(eve);
    const { url } = await begin(client, eve, { sizeBytes: second.length });
    const refused = await append(url, second, 0);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(await codeOf(refused)).toEqual([503, "BUSY"]);
    endOthers();
    const last = await until(
      async () => {
        const offset = await offsetOf(url);
        return (await append(url, second.subarray(offset), offset)).status;
      },
      (status) => status === 200,
    );
    expect(last).toBe(200);
  });

  it("one whose last request had no place is not told as whole", async () => {
    const eve = await client.createUser("Eve");
    const { url } = await begin(client, eve, {});
    expect((await append(url, second, 0)).status).toBe(204);
    const endOthers = await takeAllPlaces(eve);
    const length = { "upload-length": String(second.length) };
    expect(await codeOf(await append(url, Buffer.alloc(0), second.length, length))).toEqual([503, "BUSY"]);
    const { headers } = await tus(url, { method: "HEAD" });
    expect(Number(headers.get("upload-length") ?? Infinity)).toBeGreaterThan(Number(headers.get("upload-offset")));
    endOthers();
    const last = await until(
      async () => (await append(url, Buffer.alloc(0), second.length, length)).status,
      (status) => status === 200,
    );
    expect(last).toBe(200);
  });

  it("so many small portions can be sent with a token in a minute, and any number of larger ones", async () => {
    const [eve, ann] = [await client.createUser("Eve"), await client.createUser("Ann")];
    const large = await begin(client, ann, {});
    for (let at = 0; at < 10 * 70_000; at += 70_000) {
      expect((await append(large.url, wav.subarray(at, at + 70_000), at)).status).toBe(204);
    }
    const small = await begin(client, eve, {});
    for (let at = 0; at < 8; at++) expect((await append(small.url, wav.subarray(at, at + 1), at)).status).toBe(204);
    const refused = await append(small.url, wav.subarray(8, 9), 8);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(await codeOf(refused)).toEqual([429, "RATE_LIMITED"]);
    expect(await offsetOf(small.url)).toBe(8);
    const made = await client.run('mutation { createToken(name: "x", scopes: [UPLOAD]) { token } }', {}, eve);
    const { url: theirs } = await begin(client, { ...eve, token: made.data.createToken.token }, {});
    expect((await append(theirs, wav.subarray(0, 1), 0)).status).toBe(204); // with another token
    // Those of others still can, and larger ones, with or without a length.
    expect((await append(large.url, wav.subarray(700_000, 700_001), 700_000)).status).toBe(204);
    expect((await append(small.url, wav.subarray(8, 70_000), 8)).status).toBe(204);
    expect((await append(small.url, Readable.from([wav.subarray(70_000, 140_000)]), 70_000)).status).toBe(204);
    expect(await offsetOf(small.url)).toBe(140_000);
  });

  it("small portions that state no length count when they have arrived, and are then refused before they are stored", async () => {
    const { url } = await begin(client, await client.createUser("Eve"), {});
    const sendOne = async (at: number) => await append(url, Readable.from([wav.subarray(at, at + 1)]), at);
    for (let at = 0; at < 8; at++) expect((await sendOne(at)).status).toBe(204);
    expect(await codeOf(await sendOne(8))).toEqual([429, "RATE_LIMITED"]);
    expect(await codeOf(await append(url, wav.subarray(8, 9), 8))).toEqual([429, "RATE_LIMITED"]);
    expect(await offsetOf(url)).toBe(8);
  });

  it("small portions of whoever has a ticket are not those of its maker", async () => {
    const eve = await client.createUser("Eve");
    const made = await client.run("mutation { createUploadTicket { ticket } }", {}, eve);
    const metadata = `ticket ${base64(made.data.createUploadTicket.ticket)}`;
    const headers = { "upload-defer-length": "1", "upload-metadata": metadata };
    const created = await tus(`${service.url}/uploads`, { method: "POST", headers });
    const theirs = created.headers.get("location")!;
    for (let at = 0; at < 8; at++) expect((await append(theirs, wav.subarray(at, at + 1), at)).status).toBe(204);
    expect((await append(theirs, wav.subarray(8, 9), 8)).status).toBe(429);
    const { url } = await begin(client, eve, {});
    expect((await append(url, wav.subarray(0, 1), 0)).status).toBe(204);
  });

  it("one is kept for as long as the operator wants after its last request", async () => {
    const { url, expiresAt } = await begin(client, await client.createUser("Eve"), {});
    const secondsUntil = (time: string): number => (Date.parse(time) - Date.now()) / 1000;
    expect(secondsUntil(expiresAt)).toBeLessThanOrEqual(300);
    await service.server.database.pool.query("update resumable_upload set expires_at = now() + interval '10 s'");
    const answer = await append(url, second, 0);
    expect(secondsUntil(answer.headers.get("upload-expires")!)).toBeGreaterThan(10);
    expect(secondsUntil(answer.headers.get("upload-expires")!)).toBeLessThanOrEqual(300);
  });

  it("when the service stops, it says when to try again", async () => {
    await using database = await createTestDatabase();
    const stops = await startService({ DATABASE_URL: database.url });
    const theirs = new ApiClient(stops.url);
    const { url } = await begin(theirs, await theirs.createUser(), { sizeBytes: wav.length });
    const body = new Readable({ read() {} });
    const answer = append(url, body, 0);
    body.push(second);
    const { pool } = stops.server.database;
    const held = "select from resumable_upload where holder is not null";
    await until(
      async () => (await pool.query(held)).rows.length,
      (count) => count === 1,
    );
    const stopping = stops[Symbol.asyncDispose]();
    const { status, headers } = await answer;
    expect([status, headers.get("retry-after")]).toEqual([503, "5"]);
    body.destroy();
    await stopping;
  });
});

describe("what a client of a resumable upload was told is stored,", () => {
  const wav = take(20);

  it("also if the database goes away in the middle", async () => {
    await using database = await createTestDatabase();
    await using proxy = await startDatabaseProxy(database.url);
    await using service = await startService({ DATABASE_URL: proxy.url, DATABASE_TIMEOUT_SECONDS: "2" });
    const client = new ApiClient(service.url);
    const ann = await client.createUser("Ann");
    const upload = await begin(client, ann, { sizeBytes: wav.length });
    expect((await append(upload.url, wav.subarray(0, 1_500_000), 0)).status).toBe(204);
    const body = new Readable({ read() {} });
    const sending = append(upload.url, body, 1_500_000);
    body.push(wav.subarray(1_500_000, 2_500_000));
    const { pool } = service.server.database;
    await until(
      async () => (await pool.query("select 1 from resumable_upload where holder is not null")).rows.length,
      (rows) => rows === 1,
    );
    proxy.cut();
    body.push(wav.subarray(2_500_000));
    body.push(null);
    const answer = await sending;
    expect(answer.status).toBe(503);
    expect(answer.headers.get("retry-after")).not.toBeNull();
    proxy.restore();
    const offset = await until(
      async () => (await tus(upload.url, { method: "HEAD" })).headers.get("upload-offset"),
      (told) => told !== null,
    );
    expect(Number(offset)).toBeGreaterThanOrEqual(1_500_000);
    const last = await append(upload.url, wav.subarray(Number(offset)), Number(offset));
    expect(last.status).toBe(200);
    await expectSameAsInOneRequest(client, ann, wav, (await last.json()).data.upload.recording);
  });

  it("also if PostgreSQL is killed right after the answer", async () => {
    const folder = await mkdtemp(join(tmpdir(), "resumable-postgres-"));
    await chmod(folder, 0o755);
    try {
      const dataDir = join(folder, "data");
      await using postgres = await startEmbeddedPostgres({ dataDir, log: createLogger({ logLevel: "silent" }) });
      await using service = await startService({ DATABASE_URL: postgres.url });
      const client = new ApiClient(service.url);
      const ann = await client.createUser("Ann");
      const pidFile = join(dataDir, "postgres", "postmaster.pid");
      const kill = async (): Promise<void> => {
        const postmaster = Number.parseInt(await readFile(pidFile, "utf8"), 10);
        const family = (await listProcesses()).filter(({ pid, parentPid }) => [pid, parentPid].includes(postmaster));
        for (const { pid } of family) process.kill(pid, "SIGKILL");
      };
      const told = async (url: string): Promise<[number, string | null]> => {
        const head = await until(
          async () => await tus(url, { method: "HEAD" }),
          ({ status }) => status < 500,
        );
        return [head.status, head.headers.get("upload-offset")];
      };
      const { url } = await begin(client, ann, { sizeBytes: wav.length });
      await kill();
      expect(await told(url)).toEqual([200, "0"]);
      for (const [from, to] of [
        [0, 1_234_567],
        [1_234_567, 3_000_000],
      ] as const) {
        expect((await append(url, wav.subarray(from, to), from)).status).toBe(204);
        await kill();
        expect(await told(url)).toEqual([200, String(to)]);
      }
      const last = await append(url, wav.subarray(3_000_000), 3_000_000);
      expect(last.status).toBe(200);
      await kill();
      expect(await told(url)).toEqual([200, String(wav.length)]);
      await expectSameAsInOneRequest(client, ann, wav, (await last.json()).data.upload.recording);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});
