import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import {
  getNamedType,
  getNullableType,
  isEnumType,
  isListType,
  isObjectType,
  isRequiredArgument,
  isScalarType,
  type GraphQLField,
  type GraphQLObjectType,
} from "graphql";
import type { Pool } from "pg";
import { hashToken } from "../src/caller/token.ts";
import { createSchema } from "../src/schema.ts";
import { factsOf } from "../src/graphql/field-facts.ts";
import { ApiClient, type Answer, type Credentials } from "./support/api-client.ts";
import { startDatabaseProxy, type DatabaseProxy } from "./support/database-proxy.ts";
import { startService, type TestService } from "./support/service.ts";
import { createTestDatabase, type TestDatabase } from "./support/test-database.ts";
import { sineWav } from "./support/wav-maker.ts";

const schema = await createSchema();
const wav = sineWav({ seconds: 0.1, channels: 1 });
const inAYear = new Date(Date.now() + 365 * 86_400_000).toISOString();

/** The stored data before a mutation. */
interface Stock {
  readonly ann: Credentials;
  /** Tokens of the same user that have one scope each. */
  readonly READ: Credentials;
  readonly WRITE: Credentials;
  readonly MANAGE: Credentials;
  readonly recordIds: readonly string[];
  readonly linkId: string;
  readonly tokenId: string;
  readonly ticketId: string;
  readonly uploadId: string;
}

/** Arguments with which each mutation changes something. */
const argumentsOf: Readonly<Record<string, (stock: Stock) => string>> = {
  cancelUpload: ({ uploadId }) => `id: "${uploadId}"`,
  createLink: ({ recordIds }) => `recordId: "${recordIds[0]}", note: "for Bob", expiresAt: "${inAYear}"`,
  createToken: () => `name: "phone", scopes: [READ]`,
  createUploadTicket: () => `title: "From a form", maxBytes: 1000`,
  createUser: () => `name: "Eve"`,
  deleteRecord: ({ recordIds }) => `id: "${recordIds[0]}"`,
  deleteRecords: ({ recordIds }) => `ids: ${JSON.stringify(recordIds)}`,
  deleteUser: () => `confirm: "Ann"`,
  renewToken: () => `id: null`,
  revokeLink: ({ linkId }) => `id: "${linkId}"`,
  revokeToken: ({ tokenId }) => `id: "${tokenId}"`,
  revokeUploadTicket: ({ ticketId }) => `id: "${ticketId}"`,
  startUpload: () => `fileName: "take.wav", sizeBytes: 1000`,
  updateRecord: ({ recordIds }) => `id: "${recordIds[0]}", title: "Renamed"`,
  updateRecords: ({ recordIds }) =>
    `changes: [${recordIds.map((id) => `{ id: "${id}", title: "Renamed", visibility: PRIVATE }`).join()}]`,
  updateUser: () => `name: "Anne"`,
  uploadRecord: () => "",
};

/** Quotas of a user: null is that of the settings, 0 is none. */
const someQuota = { quota: null, whose: ", within a quota" };
const noQuota = { quota: 0, whose: "" };

const mutations = Object.values(schema.getMutationType()!.getFields());

describe("a mutation", () => {
  let database: TestDatabase;
  let proxy: DatabaseProxy;
  let service: TestService;
  let client: ApiClient;
  /** Bypasses the proxy. */
  let pool: Pool;

  beforeAll(async () => {
    database = await createTestDatabase();
    proxy = await startDatabaseProxy(database.url);
    service = await startService({ DATABASE_URL: proxy.url });
    client = new ApiClient(service.url);
    const { Pool: PoolOfDriver } = await import("pg");
    pool = new PoolOfDriver({ connectionString: database.url, max: 2 });
  });

  afterAll(async () => {
    proxy.restore();
    await pool.end();
    await service[Symbol.asyncDispose]();
    await proxy[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
  });

  async function stock(): Promise<Stock> {
    // Not truncate: it makes new files for every table, and this runs hundreds of times.
    await pool.query("delete from app_user");
    const tokens = Array.from({ length: 4 }, () => crypto.randomUUID());
    const { rows } = await pool.query<{
      stock: Pick<Stock, "recordIds" | "linkId" | "tokenId" | "ticketId" | "uploadId"> & { id: number };
    }>(
      `with ann as (insert into app_user (name) values ('Ann') returning id),
       tokens as (
         insert into access_token (owner_id, sha256, name, scopes)
         select id, sha256, name, scopes from ann, (values
           ($1::bytea, 'first', '{READ,WRITE,MANAGE}'::text[]), ($2, 'r', '{READ}'), ($3, 'w', '{WRITE}'),
           ($4, 'm', '{MANAGE}'), ('\\x00', 'old', '{READ}')
         ) token (sha256, name, scopes)
         returning id, name),
       records as (
         insert into audio_record (id, owner_id, state, title, file_name, chunk_bytes, size_bytes, source_sample_rate_hz, waveform)
         select gen_random_uuid(), id, 'ready', 'Take ' || n, 'take.wav', 1, 600000000, 1,
           decode('02000000' || '01000000' || '44ac0000' || '00010000' || '02000000' || '01000000' || 'ff01fe02', 'hex')
         from ann, generate_series(1, 3) n returning id),
       link as (
         insert into share_link (record_id, secret) select id, gen_random_uuid() from records limit 1 returning id),
       ticket as (
         insert into upload_ticket (owner_id, sha256, expires_at)
         select id, '\\x01', now() + interval '1 hour' from ann returning id),
       receiving as (
         insert into audio_record (id, owner_id, state, title, file_name, chunk_bytes, lease_until)
         select gen_random_uuid(), id, 'receiving', 'Take', 'take.wav', 1, now() + interval '1 hour' from ann
         returning id, owner_id),
       upload as (
         insert into resumable_upload (id, record_id, owner_id, secret, title, quality, expires_at)
         select id, id, owner_id, md5(random()::text), 'Take', 'LOW', now() + interval '1 hour' from receiving returning id)
       select json_build_object('id', (select id from ann), 'ticketId', (select id from ticket),
         'uploadId', (select id from upload), 'recordIds', (select json_agg(id) from records),
         'linkId', (select id from link), 'tokenId', (select id from tokens where name = 'old')) as stock`,
      tokens.map(hashToken),
    );
    const { id: number, ...rest } = rows[0]!.stock;
    const id = String(number);
    const [ann, READ, WRITE, MANAGE] = tokens.map((token) => ({ id, token }));
    return { ...rest, ann: ann!, READ: READ!, WRITE: WRITE!, MANAGE: MANAGE! };
  }

  /** What is stored, without the times at which tokens were used. */
  async function stored(): Promise<string> {
    const { rows } = await pool.query<{ state: string }>(
      `select json_build_object(
         'users', (select json_agg(json_build_array(id, name) order by id) from app_user),
         'tokens', (select json_agg(json_build_array(id, name, scopes, expires_at, next_sha256) order by id) from access_token),
         'records', (select json_agg(json_build_array(id, title, visibility) order by id) from audio_record where state = 'ready'),
         'tickets', (select json_agg(json_build_array(id, title) order by id) from upload_ticket),
         'uploads', (select json_agg(id order by id) from resumable_upload),
         'links', (select json_agg(json_build_array(id, note, expires_at) order by id) from share_link))::text as state`,
    );
    return rows[0]!.state;
  }

  async function run(name: string, fields: string, things: Stock, user = things.ann, api = client): Promise<Answer> {
    if (name === "uploadRecord") {
      return await api.uploadRecord(user, wav, { fields: /record \{(.*)\}/s.exec(fields)?.[1] ?? "__typename" });
    }
    return await api.run(`mutation { ${name}(${argumentsOf[name]!(things)}) { ${fields} } }`, {}, user);
  }

  /** What a mutation did, and whether its answer says so. */
  async function outcome(name: string, fields: string, user?: (things: Stock) => Credentials): Promise<Outcome> {
    const things = await stock();
    const before = await stored();
    const { status, data, errors } = await run(name, fields, things, user?.(things));
    const codes = errors?.map(({ extensions }) => extensions.code) ?? [];
    const told = status === 200 && data != null && data[name] !== null;
    return { done: (await stored()) !== before, told, status, codes, data };
  }

  it("has arguments in this test", () => {
    expect(mutations.map(({ name }) => name).toSorted()).toEqual(Object.keys(argumentsOf));
  });

  it.each(mutations.map(({ name }) => name))("is answered as done if nothing fails: %s", async (name) => {
    expect(await outcome(name, everythingOf(payloadOf(name)))).toMatchObject({ done: true, told: true, codes: [] });
  });

  describe.each(mutations.map(({ name }) => name))("%s", (name) => {
    it("is done if and only if it is answered as done, whatever the scopes and the selected fields", async () => {
      const selections = refusableSelections(payloadOf(name));
      for (const fields of ["__typename", ...selections]) {
        for (const user of fields.includes("(") ? (["ann"] as const) : (["ann", "READ", "WRITE", "MANAGE"] as const)) {
          const { done, told, status, codes } = await outcome(name, fields, (things) => things[user]);
          expect({ fields, user, status, codes, told }).toEqual({ fields, user, status, codes, told: done });
        }
      }
    });

    // An upload of a user without a quota ends with one statement, else with a transaction.
    const owners = name === "uploadRecord" ? [noQuota, someQuota] : [noQuota];
    it.each(owners.flatMap((owner) => (["statement", "answer"] as const).map((what) => ({ what, ...owner }))))(
      "is done exactly if it is answered as done, whichever $what is lost on the way to the database$whose",
      async ({ what, quota }) => {
        let losses = 0;
        for (let number = 1; number <= 40; number++) {
          const things = await stock();
          await pool.query(
            "update app_user set quota_bytes = $1::int, quota_seconds = $1::int, quota_records = $1::int",
            [quota],
          );
          const before = await stored();
          proxy.lose(what, number);
          const { status, data, errors } = await run(name, everythingOf(payloadOf(name)), things);
          const { lost } = proxy;
          proxy.restore();
          if (!lost) break;
          losses++;
          const told = status === 200 && data != null && data[name] !== null;
          const codes = errors?.map(({ extensions }) => extensions.code) ?? [];
          const done = (await stored()) !== before;
          expect({ number, status, codes, told }).toEqual({ number, status, codes, told: done });
          expect(codes).not.toContain("OUTCOME_UNKNOWN");
          expect(codes).not.toContain("INTERNAL_SERVER_ERROR");
        }
        expect(losses).toBeGreaterThan(0);
        expect(losses).toBeLessThan(40);
      },
    );
  });

  it.each(["createUser", "createToken"])(
    "is answered as neither done nor refused when the database is gone for good: %s",
    async (name) => {
      await using impatient = await startService({ DATABASE_URL: proxy.url, DATABASE_TIMEOUT_SECONDS: "1" });
      const theirs = new ApiClient(impatient.url);
      let doneAndLost = false;
      for (let number = 1; !doneAndLost; number++) {
        const things = await stock();
        const before = await stored();
        proxy.lose("answer", number, { forGood: true });
        const { status, data, errors, headers } = await run(name, "__typename", things, things.ann, theirs);
        const { lost } = proxy;
        proxy.restore();
        expect({ number, lost }).toEqual({ number, lost: true });
        const { code } = errors![0]!.extensions;
        expect([status, data]).toEqual([code === "OUTCOME_UNKNOWN" ? 504 : 503, null]);
        doneAndLost = (await stored()) !== before;
        if (!doneAndLost) continue;
        expect(code).toBe("OUTCOME_UNKNOWN");
        // Clients should not repeat it without checking first.
        expect(headers.get("retry-after")).toBeNull();
      }
    },
  );
});

interface Outcome {
  readonly done: boolean;
  readonly told: boolean;
  readonly status: number;
  readonly codes: unknown[];
  readonly data: unknown;
}

function payloadOf(mutation: string): GraphQLObjectType {
  return getNamedType(schema.getMutationType()!.getFields()[mutation]!.type) as GraphQLObjectType;
}

/**
 * A selection of all fields, with each type at most once on the way down; in lists, no list of recordings, no recording
 * of an upload, and no field that needs arguments.
 */
function everythingOf(type: GraphQLObjectType, around: readonly GraphQLObjectType[] = [], isInList = false): string {
  return Object.values(type.getFields())
    .flatMap((field) => {
      const inner = getNamedType(field.type);
      if (!isObjectType(inner)) return isScalarType(inner) || isEnumType(inner) ? field.name : [];
      if (around.includes(inner) || inner === type || isHidden(around, field)) return [];
      if (
        isInList &&
        (inner.name === "RecordConnection" || field.name === "recording" || field.args.some(isRequiredArgument))
      )
        return [];
      const isList = isInList || isListType(getNullableType(field.type));
      return `${withRequired(field)} { ${everythingOf(inner, [...around, type], isList)} }`;
    })
    .join(" ");
}

/** The field with values of the arguments that it needs. */
function withRequired(field: GraphQLField<unknown, unknown>): string {
  const given = field.args
    .filter(isRequiredArgument)
    .map((arg) => `${arg.name}: ${usualValues[String(getNullableType(arg.type))]}`);
  return given.length === 0 ? field.name : `${field.name}(${given.join(", ")})`;
}

const usualValues: Readonly<Record<string, string>> = { Float: "-16" };

/** Whether the field is private, which a user who is just being created cannot select. */
function isHidden(around: readonly GraphQLObjectType[], field: GraphQLField<unknown, unknown>): boolean {
  return around[0]?.name === "CreateUserPayload" && factsOf(field).ownerOnly !== undefined;
}

/**
 * Selections of one field each that can be refused: private fields, and fields with unusual values of their arguments.
 */
function refusableSelections(type: GraphQLObjectType, around: readonly GraphQLObjectType[] = []): string[] {
  return Object.values(type.getFields()).flatMap((field) => {
    const inner = getNamedType(field.type);
    const inside = isObjectType(inner) ? " { __typename }" : "";
    const here = [
      ...(factsOf(field).ownerOnly ? [`${withRequired(field)}${inside}`] : []),
      ...field.args.flatMap((arg) => {
        const argumentType = getNullableType(arg.type);
        const values =
          argumentType.toString() === "Int"
            ? ["-1", "0", "101", "2049", "2147483647"]
            : argumentType.toString() === "Float"
              ? ["-1000", "-16", "1000"]
              : argumentType.toString() === "String"
                ? ['"x"']
                : [];
        return values.map((value) => `${field.name}(${arg.name}: ${value})${inside}`);
      }),
    ];
    if (!isObjectType(inner) || around.filter((outer) => outer === inner).length > 0) return here;
    const below = refusableSelections(inner, [...around, type]).map(
      (selection) => `${withRequired(field)} { ${selection} }`,
    );
    return [...here, ...below];
  });
}
