import { expect, it } from "@jest/globals";
import type { Pool } from "pg";
import { PrepaidAllowances, takeAllowance } from "../src/limits/write-allowance.ts";
import { createInvitation } from "../src/user/administer-users.ts";
import { ApiClient, type Answer, type Credentials } from "./support/api-client.ts";
import { startService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

const wav = sineWav({ seconds: 1 });

/** Moves everything that was written four days into the past. */
const fourDaysLater = async (pool: Pool) =>
  void (await pool.query("update write_allowance set at = at - interval '4 days'"));

const codeOf = ({ errors }: { errors: { extensions: Record<string, unknown> }[] | undefined }) =>
  errors?.[0]?.extensions.code;

it("limits what strangers write in a month to 8 plus 31 days' worth, with any number of addresses and users", async () => {
  const bytesPerDay = 30_000;
  await using service = await startService({
    TRUST_PROXY: "loopback",
    ALL_NEW_USERS_BYTES_PER_DAY: `${bytesPerDay}`,
    NEW_USER_BYTES_PER_DAY: "0",
  });
  const { pool } = service.server.database;
  const client = new ApiClient(service.url);
  let stranger = await client.createUser();
  /** Uploads once more, from another address. Returns the bytes that were written, or the error. */
  const uploadFrom = async (address: number): Promise<number | Answer> => {
    const headers = { "x-forwarded-for": `203.0.113.${address}` };
    const answer = await client.uploadRecord(stranger, wav, { headers, fields: "id sizeBytes" });
    if (answer.status !== 200) return answer;
    const { id, sizeBytes } = answer.data.uploadRecord.record;
    // Neither deleting nor a different user gives anything back.
    await client.run("mutation ($ids: [ID!]!) { deleteRecords(ids: $ids) { deletedIds } }", { ids: [id] }, stranger);
    const { data } = await client.run('mutation { createUser(name: "Ann") { user { id } token } }');
    if (data?.createUser) stranger = { id: data.createUser.user.id, token: data.createUser.token };
    return sizeBytes + 65_536;
  };

  let stored = 0;
  const refusals: Answer[] = [];
  for (let address = 0; refusals.length < 8;) {
    const outcome = await uploadFrom((address += 1));
    if (typeof outcome === "number") stored += outcome;
    else {
      refusals.push(outcome);
      await fourDaysLater(pool);
    }
  }
  for (const { status, errors } of refusals) {
    expect([status, errors![0]!.extensions]).toMatchObject([
      429,
      { code: "RATE_LIMITED", limit: bytesPerDay, withinSeconds: 86_400 },
    ]);
  }
  expect(stored).toBeLessThanOrEqual((8 + 31) * bytesPerDay);
  expect(stored).toBeGreaterThan(20 * bytesPerDay);
});

it("counts what an upload wrote before it failed", async () => {
  await using service = await startService({ NEW_USER_BYTES_PER_DAY: "20000" });
  const client = new ApiClient(service.url);
  const ann = await client.createUser();
  const wrongHash = { args: `, sourceSha256: "${"0".repeat(64)}"` };
  const codes = [];
  for (let at = 0; at < 3; at++) codes.push(codeOf(await client.uploadRecord(ann, wav, wrongHash)));
  expect(codes).toEqual(["BAD_USER_INPUT", "RATE_LIMITED", "RATE_LIMITED"]);
  const { rows } = await service.server.database.pool.query("select used_bytes from write_allowance where key = $1", [
    `user:${ann.id}`,
  ]);
  expect(rows[0].used_bytes).toBeGreaterThan(65_536 + 15_000);
});

it("ends a long upload when its allowance is used up, and leaves nothing of it", async () => {
  await using service = await startService({ NEW_USER_BYTES_PER_DAY: "150000" });
  const client = new ApiClient(service.url);
  const ann = await client.createUser();
  const answer = await client.uploadRecord(ann, sineWav({ seconds: 160, channels: 1, sampleRateHz: 22_050 }));
  expect([answer.status, codeOf(answer)]).toEqual([429, "RATE_LIMITED"]);
  expect(Number(answer.headers.get("retry-after"))).toBeGreaterThan(0);
  const { rowCount } = await service.server.database.pool.query("select from mp3_chunk");
  expect(rowCount).toBe(0);
});

it("limits new users of one network to half, so that others find room", async () => {
  await using service = await startService({ TRUST_PROXY: "loopback", ALL_NEW_USERS_BYTES_PER_DAY: "100000" });
  const client = new ApiClient(service.url);
  const ann = await client.createUser();
  const uploadFrom = async (address: string) =>
    (await client.uploadRecord(ann, wav, { headers: { "x-forwarded-for": address } })).status;
  const statuses = [];
  for (let at = 0; at < 8; at++) statuses.push(await uploadFrom(`2001:db8:1:${at}::1`));
  expect(statuses.filter((status) => status === 200).length).toBeLessThan(6);
  expect(statuses.at(-1)).toBe(429);
  expect(await uploadFrom("2001:db8:2::1")).toBe(200);
});

it("limits tokens and links of new users too, but nothing of older, invited and known users", async () => {
  await using service = await startService({ ALL_NEW_USERS_BYTES_PER_DAY: "20000", NEW_USER_DAYS: "10" });
  const { em, pool } = service.server.database;
  const client = new ApiClient(service.url);
  const ann = await client.createUser();
  const createToken = async (user: Credentials) =>
    codeOf(await client.run('mutation { createToken(name: "x") { accessToken { id } } }', {}, user));
  const codes = [];
  for (let at = 0; at < 50; at++) codes.push(await createToken(ann));
  expect(codes[0]).toBeUndefined();
  expect(codes.at(-1)).toBe("RATE_LIMITED");
  expect(codeOf(await client.uploadRecord(ann, wav))).toBe("RATE_LIMITED");
  // Refused requests do not count.
  const before = await pool.query("select sum(used_bytes) from write_allowance");
  await client.uploadRecord(ann, wav);
  const after = await pool.query("select sum(used_bytes) from write_allowance");
  expect(Number(after.rows[0].sum)).toBeLessThanOrEqual(Number(before.rows[0].sum));

  const invite = await createInvitation(em, new Date(Date.now() + 60_000));
  const { data } = await client.run(
    'mutation ($invite: String) { createUser(name: "Bob", invite: $invite) { user { id } token } }',
    { invite },
  );
  const bob = { id: data.createUser.user.id, token: data.createUser.token };
  expect((await client.uploadRecord(bob, wav)).status).toBe(200);
  await pool.query("update app_user set created_at = now() - interval '10 days' where id = $1", [ann.id]);
  expect((await client.uploadRecord(ann, wav)).status).toBe(200);
  expect(await createToken(ann)).toBeUndefined();
});

it("is never exceeded by many uploads at once, on two replicas", async () => {
  const settings = { ALL_NEW_USERS_BYTES_PER_DAY: "100000" };
  await using service = await startService(settings);
  await using replica = await startService({ ...settings, DATABASE_URL: service.databaseUrl });
  const clients = [new ApiClient(service.url), new ApiClient(replica.url)];
  const users = await Promise.all(clients.map(async (client) => await client.createUser()));
  const answers = await Promise.all(
    Array.from({ length: 30 }, async (_, at) => await clients[at % 2]!.uploadRecord(users[at % 2], wav)),
  );
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200, 429]));
  const { rows } = await service.server.database.pool.query(
    "select sum(size_bytes) as bytes, count(*)::int as records from audio_record where state = 'ready'",
  );
  expect(Number(rows[0].bytes) + rows[0].records * 65_536).toBeLessThanOrEqual(400_000);
});

it("is used to its last byte, although small rows are paid for in advance", async () => {
  await using service = await startService();
  const { em } = service.server.database;
  const prepaid = new PrepaidAllowances(em);
  // 100 bytes are paid in advance. They come back in 21 seconds.
  const charge = { keys: ["user:1"], bytesPerDay: [409_600] };
  await takeAllowance(em, charge, 8 * 409_600 - 95);
  await prepaid.take(charge, 90);
  await expect(prepaid.take(charge, 90)).rejects.toMatchObject({ code: "RATE_LIMITED" });
});

it("never makes more new users than there is room for, however many come at once, and the refused cost nothing", async () => {
  // 8 days of half of it, at 4096 bytes for each: 16 users from one address.
  await using service = await startService({ ALL_NEW_USERS_BYTES_PER_DAY: "16384" });
  const client = new ApiClient(service.url);
  const create = async () => codeOf(await client.run('mutation { createUser(name: "Ann") { token } }'));
  const codes = await Promise.all(Array.from({ length: 40 }, create));
  const counted = (code: unknown) => codes.filter((found) => found === code).length;
  expect([counted(undefined), counted("RATE_LIMITED")]).toEqual([16, 24]);
  const { rows } = await service.server.database.pool.query("select round(used_bytes) as used from write_allowance");
  expect(rows.map(({ used }) => used)).toEqual([65_536, 65_536]);
});
