import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { v4 as uuidv4 } from "uuid";
import { ApiClient, type Answer, type Credentials } from "./support/api-client.ts";
import { startHalfUpload } from "./support/half-upload.ts";
import { startService, type TestService } from "./support/service.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

const wav = sineWav({ seconds: 0.2, channels: 1 });
const otherWav = sineWav({ seconds: 0.3, channels: 1 });

describe("an upload ticket", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;

  beforeAll(async () => {
    service = await startService();
    client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  interface Ticket {
    readonly ticket: string;
    readonly ticketId: string;
    readonly expiresAt: string;
  }

  const create = async (args: string, user: Credentials | undefined = ann): Promise<Answer> =>
    await client.run(`mutation { createUploadTicket${args} { ticket ticketId expiresAt user { id } } }`, {}, user);

  const ticketOf = async (args = "", user = ann): Promise<Ticket> => (await create(args, user)).data.createUploadTicket;

  /** Uploads as somebody who has a ticket and no token. */
  const use = async (
    ticket: string,
    {
      file = wav,
      args = "",
      fields = "id title visibility url",
      user = undefined as Credentials | undefined,
      fileName = "take.wav",
    } = {},
  ) => await client.uploadRecord(user, file, { args: `, ticket: "${ticket}"${args}`, fields, fileName });

  const codeOf = ({ status, errors }: Answer) => [status, errors?.[0]?.extensions.code];
  const refusedWith = ({ status, data, errors }: Answer) => [status, data, errors?.[0]?.extensions];

  async function newToken(scopes: string, user = ann): Promise<Credentials & { tokenId: string }> {
    const query = `mutation { createToken(name: "x", scopes: [${scopes}]) { token accessToken { id } } }`;
    const { token, accessToken } = (await client.run(query, {}, user)).data.createToken;
    return { id: user.id, token, tokenId: accessToken.id };
  }

  const revokeToken = async (id: string) =>
    await client.run("mutation ($id: ID!) { revokeToken(id: $id) { revokedId } }", { id }, ann);

  const count = async (user: Credentials): Promise<number> =>
    (await service.server.database.pool.query("select from audio_record where owner_id = $1", [user.id])).rowCount!;

  it("uploads one recording into the library of its maker, without a token", async () => {
    const eve = await client.createUser("Eve");
    const { ticket } = await ticketOf('(title: "From the form", visibility: PRIVATE, quality: LOW)', eve);
    const { status, data } = await use(ticket, { fields: "id title visibility bitrateKbps owner { id }" });
    expect([status, data.uploadRecord]).toEqual([
      200,
      {
        created: true,
        record: {
          id: expect.any(String),
          title: "From the form",
          visibility: "PRIVATE",
          bitrateKbps: 64,
          owner: { id: eve.id },
        },
      },
    ]);
    expect(await count(eve)).toBe(1);
  });

  it("answers a retry with the same recording, and is used up for every other file", async () => {
    const eve = await client.createUser("Eve");
    const { ticket } = await ticketOf("", eve);
    const first = await use(ticket);
    const again = await use(ticket);
    expect(again.data.uploadRecord).toEqual({ created: false, record: first.data.uploadRecord.record });
    for (const other of [{ file: otherWav }, { fileName: "other.wav" }]) {
      expect(refusedWith(await use(ticket, other))).toMatchObject([
        409,
        null,
        { code: "CONFLICT", argument: "ticket" },
      ]);
    }
    expect(await count(eve)).toBe(1);
  });

  it("stays used when its recording was deleted", async () => {
    const { ticket } = await ticketOf();
    const { id } = (await use(ticket)).data.uploadRecord.record;
    await client.run("mutation ($id: ID!) { deleteRecord(id: $id) { deletedId } }", { id }, ann);
    const before = await count(ann);
    expect(codeOf(await use(ticket))).toEqual([409, "CONFLICT"]);
    expect(await count(ann)).toBe(before);
  });

  it("can be used again after an upload that failed", async () => {
    const { ticket } = await ticketOf("(maxBytes: 20000)");
    expect(codeOf(await use(ticket, { file: Buffer.from("no sound") }))).toEqual([415, "UNSUPPORTED_MEDIA"]);
    expect(codeOf(await use(ticket, { args: `, sourceSha256: "${"0".repeat(64)}"` }))).toEqual([400, "BAD_USER_INPUT"]);
    expect((await use(ticket)).status).toBe(200);
  });

  it("stores one recording even if two uploads come at once", async () => {
    const eve = await client.createUser("Eve");
    const { ticket } = await ticketOf("", eve);
    const answers = await Promise.all([use(ticket), use(ticket), use(ticket)]);
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(new Set(answers.map(({ data }) => data.uploadRecord.record.id)).size).toBe(1);
    expect(answers.filter(({ data }) => data.uploadRecord.created)).toHaveLength(1);
    expect(await count(eve)).toBe(1);
  });

  it("limits the size of the file to that of its maker", async () => {
    const before = await count(ann);
    const { ticket } = await ticketOf(`(maxBytes: ${wav.length - 1})`);
    expect(refusedWith(await use(ticket))).toMatchObject([
      413,
      null,
      { code: "UPLOAD_TOO_LARGE", maxBytes: wav.length - 1 },
    ]);
    expect(await count(ann)).toBe(before);
    expect((await use((await ticketOf(`(maxBytes: ${wav.length})`)).ticket)).status).toBe(200);
  });

  it("leaves to the upload what its maker has not decided, and nothing else", async () => {
    const open = await ticketOf();
    const { record } = (await use(open.ticket, { args: ', title: "Mine", visibility: PRIVATE' })).data.uploadRecord;
    expect(record).toMatchObject({ title: "Mine", visibility: "PRIVATE" });
    const { ticket } = await ticketOf('(title: "Theirs", visibility: PRIVATE, quality: LOW)');
    for (const [argument, args] of [
      ["title", ', title: "Mine"'],
      ["visibility", ", visibility: PUBLIC"],
      ["quality", ", quality: HIGH"],
      ["idempotencyKey", `, idempotencyKey: "${uuidv4()}"`],
      ["ticket", `, userId: "${ann.id}", token: "${ann.token}"`],
    ] as const) {
      expect(refusedWith(await use(ticket, { args }))).toMatchObject([400, null, { code: "BAD_USER_INPUT", argument }]);
    }
    expect((await use(ticket)).data.uploadRecord.record.title).toBe("Theirs");
  });

  it("gives the one who has it nothing else of its maker", async () => {
    const { ticket, ticketId } = await ticketOf();
    const before = await count(ann);
    for (const fields of [
      "links { url }",
      "owner { records { totalCount } }",
      "owner { usage { bytes } }",
      "owner { tokens { id } }",
    ]) {
      expect(codeOf(await use(ticket, { fields }))).toEqual([403, "FORBIDDEN"]);
    }
    expect(await count(ann)).toBe(before);
    const { id } = (await use(ticket)).data.uploadRecord.record;
    for (const token of [ticket, ticketId]) {
      const stranger = { id: ann.id, token };
      for (const query of [
        "{ me { id } }",
        `{ record(id: "${id}") { id } }`,
        "mutation { createUploadTicket { ticket } }",
      ]) {
        expect(codeOf(await client.run(query, {}, stranger))).toEqual([401, "UNAUTHENTICATED"]);
      }
      expect(codeOf(await client.uploadRecord(stranger, wav))).toEqual([401, "UNAUTHENTICATED"]);
    }
    expect(codeOf(await use(ticketId))).toEqual([401, "UNAUTHENTICATED"]);
  });

  it("counts whoever has it and not the token beside it", async () => {
    const bob = await client.createUser("Bob");
    const { ticket } = await ticketOf();
    const { data } = await use(ticket, { user: bob, fields: "owner { id }" });
    expect(data.uploadRecord.record.owner).toEqual({ id: ann.id });
    expect(await count(bob)).toBe(0);
  });

  it("may be made with UPLOAD, whose token then reads the recording", async () => {
    const kiosk = await newToken("UPLOAD");
    const { id } = (await use((await ticketOf("", kiosk)).ticket)).data.uploadRecord.record;
    const read = async (token: Credentials) =>
      (await client.run("query ($id: ID!) { record(id: $id) { id } }", { id }, token)).data.record;
    expect(await read(kiosk)).toEqual({ id });
    expect(await read(await newToken("UPLOAD"))).toBeNull();
  });

  it("is refused to strangers, to other scopes, and to a revoked token", async () => {
    const revoked = await newToken("UPLOAD");
    await revokeToken(revoked.tokenId);
    expect(codeOf(await create("", { id: ann.id, token: uuidv4() }))).toEqual([401, "UNAUTHENTICATED"]);
    expect(codeOf(await create("", revoked))).toEqual([401, "UNAUTHENTICATED"]);
    expect(codeOf(await create("", await newToken("READ, MANAGE")))).toEqual([403, "FORBIDDEN"]);
  });

  it("is revoked with the token that made it, also while the upload runs", async () => {
    const maker = await newToken("WRITE");
    const [idle, running] = [await ticketOf("", maker), await ticketOf("", maker)];
    const before = await count(ann);
    const port = Number(new URL(service.url).port);
    const long = sineWav({ seconds: 20, channels: 2 });
    using half = await startHalfUpload(port, ann, long, `, ticket: "${running.ticket}"`);
    expect(
      await until(
        async () => await count(ann),
        (found) => found === before + 1,
      ),
    ).toBe(before + 1);
    await revokeToken(maker.tokenId);
    await half.finish();
    const { status, body } = (await half.connection.answer())!;
    const { data, errors } = JSON.parse(body);
    expect([status, data, errors[0].extensions.code]).toEqual([401, null, "UNAUTHENTICATED"]);
    expect(codeOf(await use(idle.ticket))).toEqual([401, "UNAUTHENTICATED"]);
    expect(await count(ann)).toBe(before);
  });

  it("is revoked by a token that only uploads, if that created it", async () => {
    const kiosk = await newToken("UPLOAD");
    const { ticket, ticketId } = await ticketOf("", kiosk);
    const query = `mutation { revokeUploadTicket(id: "${ticketId}") { revokedId } }`;
    expect((await client.run(query, {}, kiosk)).data.revokeUploadTicket).toEqual({ revokedId: ticketId });
    expect(codeOf(await use(ticket))).toEqual([401, "UNAUTHENTICATED"]);
  });

  it("is listed for its owner while it can be used", async () => {
    const fay = await client.createUser("Fay");
    const kiosk = await newToken("UPLOAD", fay);
    const used = await ticketOf("", fay);
    const first = await ticketOf('(title: "Hall", quality: LOW, visibility: PRIVATE, maxBytes: 5000)', kiosk);
    const second = await ticketOf("", fay);
    const fields = "uploadTickets { id tokenId createdAt expiresAt title quality visibility maxBytes }";
    const list = async (user: Credentials): Promise<Answer> => await client.run(`{ me { ${fields} } }`, {}, user);
    expect((await list(fay)).data.me.uploadTickets.map(({ id }: { id: string }) => id)).toEqual(
      [second, first, used].map(({ ticketId }) => ticketId),
    );
    expect((await use(used.ticket)).status).toBe(200);
    await client.run(`mutation { revokeUploadTicket(id: "${second.ticketId}") { revokedId } }`, {}, fay);
    expect((await list(fay)).data.me.uploadTickets).toEqual([
      {
        id: first.ticketId,
        tokenId: kiosk.tokenId,
        createdAt: expect.any(String),
        expiresAt: first.expiresAt,
        title: "Hall",
        quality: "LOW",
        visibility: "PRIVATE",
        maxBytes: 5000,
      },
    ]);
    expect((await list(ann)).data.me.uploadTickets).not.toContainEqual(expect.objectContaining({ id: first.ticketId }));
    expect(codeOf(await list(kiosk))).toEqual([403, "FORBIDDEN"]);
  });

  it("is revoked by its id, by nobody but its owner", async () => {
    const bob = await client.createUser("Bob");
    const { ticket, ticketId } = await ticketOf();
    const revoke = async (user?: Credentials) =>
      await client.run("mutation ($id: ID!) { revokeUploadTicket(id: $id) { revokedId } }", { id: ticketId }, user);
    expect(codeOf(await revoke())).toEqual([401, "UNAUTHENTICATED"]);
    expect(codeOf(await revoke(bob))).toEqual([404, "NOT_FOUND"]);
    expect(codeOf(await revoke(await newToken("READ")))).toEqual([403, "FORBIDDEN"]);
    expect(codeOf(await revoke(await newToken("UPLOAD")))).toEqual([404, "NOT_FOUND"]);
    expect((await revoke(ann)).data.revokeUploadTicket).toEqual({ revokedId: ticketId });
    expect(codeOf(await revoke(ann))).toEqual([404, "NOT_FOUND"]);
    expect(codeOf(await use(ticket))).toEqual([401, "UNAUTHENTICATED"]);
  });

  it("expires, but answers a retry for another day", async () => {
    const { pool } = service.server.database;
    const expire = async (id: string, ago: string) =>
      await pool.query("update upload_ticket set expires_at = now() - $2::interval where id = $1", [id, ago]);
    const [unused, used] = [await ticketOf(), await ticketOf()];
    const { record } = (await use(used.ticket)).data.uploadRecord;
    await expire(unused.ticketId, "1 second");
    await expire(used.ticketId, "23 hours");
    expect(codeOf(await use(unused.ticket))).toEqual([401, "UNAUTHENTICATED"]);
    expect((await use(used.ticket)).data.uploadRecord).toEqual({ created: false, record });
    await expire(used.ticketId, "25 hours");
    expect(codeOf(await use(used.ticket))).toEqual([401, "UNAUTHENTICATED"]);
    await ticketOf();
    expect((await pool.query("select from upload_ticket where id = $1", [used.ticketId])).rowCount).toBe(0);
  });

  it("does not live longer than a month or than its maker's token", async () => {
    const inDays = (days: number) => new Date(Date.now() + days * 86_400_000).toISOString();
    const hours = ({ expiresAt }: Ticket) => (Date.parse(expiresAt) - Date.now()) / 3_600_000;
    expect(Math.ceil(hours(await ticketOf()))).toBe(24);
    expect(Math.ceil(hours(await ticketOf(`(expiresAt: "${inDays(30)}")`)))).toBe(720);
    const query = `mutation { createToken(name: "x", scopes: [UPLOAD], expiresAt: "${inDays(0.5)}") { token } }`;
    const short = { id: ann.id, token: (await client.run(query, {}, ann)).data.createToken.token };
    expect(Math.ceil(hours(await ticketOf("", short)))).toBe(12);
    for (const [args, user] of [
      [`(expiresAt: "${inDays(32)}")`, ann],
      [`(expiresAt: "${inDays(-1)}")`, ann],
      [`(expiresAt: "${inDays(1)}")`, short],
      ["(maxBytes: 0)", ann],
      ['(title: " ")', ann],
    ] as const) {
      expect([args, ...codeOf(await create(args, user))]).toEqual([args, 400, "BAD_USER_INPUT"]);
    }
  });

  it("is refused for a disabled user, and to a user who has a thousand", async () => {
    const eve = await client.createUser("Eve");
    const { ticket } = await ticketOf("", eve);
    const { pool } = service.server.database;
    await pool.query(
      `insert into upload_ticket (owner_id, sha256, expires_at)
       select $1, sha256(n::text::bytea), now() + interval '1 hour' from generate_series(1, 999) n`,
      [eve.id],
    );
    expect(refusedWith(await create("", eve))).toMatchObject([409, null, { code: "CONFLICT", max: 1000 }]);
    await use(ticket);
    expect((await create("", eve)).status).toBe(200);
    await pool.query("update app_user set disabled_at = now() where id = $1", [eve.id]);
    expect(codeOf(await use(ticket))).toEqual([403, "USER_DISABLED"]);
  });

  it("counts against the quota and the uploads per hour of its maker", async () => {
    await using strict = await startService({
      MAX_UPLOADS_PER_HOUR: "2",
      QUOTA_RECORDS: "1",
      DATABASE_URL: service.databaseUrl,
    });
    const theirs = new ApiClient(strict.url);
    const eve = await theirs.createUser("Eve");
    const upload = async () => {
      const made = await theirs.run("mutation { createUploadTicket { ticket } }", {}, eve);
      return await theirs.uploadRecord(undefined, wav, { args: `, ticket: "${made.data.createUploadTicket.ticket}"` });
    };
    expect(codeOf(await upload())).toEqual([200, undefined]);
    expect(codeOf(await upload())).toEqual([403, "QUOTA_EXCEEDED"]);
    expect(codeOf(await upload())).toEqual([429, "RATE_LIMITED"]);
  });
});
