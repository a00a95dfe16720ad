import { afterAll, afterEach, beforeAll, describe, expect, it } from "@jest/globals";
import { v4 as uuidv4 } from "uuid";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { connectRaw, rawPost, type RawConnection } from "./support/raw-http.ts";
import { startService, type TestService } from "./support/service.ts";
import { startServiceProcess } from "./support/service-process.ts";
import { createTestDatabase } from "./support/test-database.ts";
import { beginTransaction, type Transaction } from "./support/transaction.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

const wav = sineWav({ seconds: 0.1, channels: 1 });
const noLink = `/l/${"A".repeat(32)}`;

describe("a flood of requests that wait for the database", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;
  let url: string;
  let holder: Transaction;

  beforeAll(async () => {
    service = await startService({ DATABASE_POOL_SIZE: "4" });
    client = new ApiClient(service.url);
    ann = await client.createUser();
    url = (await client.uploadRecord(ann, wav)).data.uploadRecord.record.url;
  });

  afterEach(async () => await holder[Symbol.asyncDispose]());
  afterAll(async () => await service[Symbol.asyncDispose]());

  /** Sends requests that need a locked table, until as many wait for the lock as ever will. */
  const flood = async (
    table: string,
    send: () => Promise<Response>,
    { waiting = 3, mode = "access exclusive" } = {},
  ): Promise<Promise<Response>[]> => {
    holder = await beginTransaction(service.databaseUrl, `lock table ${table} in ${mode} mode`);
    const answers = Array.from({ length: 60 }, send);
    expect(await holder.untilWaiting(waiting)).toBe(waiting);
    return answers;
  };
  const unlock = async (answers: readonly Promise<Response>[]): Promise<Set<number>> => {
    await holder.commit();
    return new Set((await Promise.all(answers)).map(({ status }) => status));
  };
  const withWrongToken = async (): Promise<Response> =>
    await fetch(`${service.url}/graphql`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${uuidv4()}` },
      body: '{"query":"{ me { id } }"}',
    });
  const uploadOfNoSound = async (): Promise<Response> => {
    const query = "mutation ($file: Upload!) { uploadRecord(file: $file) { created } }";
    const body = new FormData();
    body.append("operations", JSON.stringify({ query, variables: { file: null } }));
    body.append("map", '{"0":["variables.file"]}');
    body.append("0", new Blob(["no sound"]), "take.wav");
    const headers = { authorization: `Bearer ${ann.token}` };
    return await fetch(`${service.url}/graphql`, { method: "POST", headers, body });
  };

  it("with unknown share links holds up nobody else", async () => {
    const answers = await flood("share_link", async () => await fetch(service.url + noLink));
    expect((await client.run('mutation { createUser(name: "Bob") { token } }')).errors).toBeUndefined();
    expect((await client.run("{ me { records { nodes { title } } } }", {}, ann)).errors).toBeUndefined();
    expect((await fetch(url, { headers: { range: "bytes=0-99" } })).status).toBe(206);
    expect((await client.uploadRecord(ann, wav)).status).toBe(200);
    expect(await unlock(answers)).toEqual(new Set([404]));
  });

  it("of all kinds of addresses leaves turns for others", async () => {
    const paths = ["listen/", "embed/", "l/", "oembed?url=" + encodeURIComponent(`${service.url}/l/`)];
    const send = paths.map((path) => async () => await fetch(`${service.url}/${path}${"A".repeat(32)}`));
    let sent = 0;
    const answers = await flood("share_link", async () => await send[sent++ % send.length]!());
    expect((await client.run("{ me { records { nodes { title } } } }", {}, ann)).errors).toBeUndefined();
    expect(await unlock(answers)).toEqual(new Set([404]));
  });

  it("with wrong tokens holds up nobody who has none", async () => {
    const answers = await flood("access_token", withWrongToken);
    expect((await fetch(url, { headers: { range: "bytes=0-99" } })).status).toBe(206);
    expect((await client.run(`{ shared(url: "${url}") { title } }`)).errors).toBeUndefined();
    expect(await unlock(answers)).toEqual(new Set([401]));
  });

  it("of one user holds up no other", async () => {
    const eve = await client.createUser("Eve");
    expect((await client.run("{ me { name } }", {}, eve)).status).toBe(200);
    const createLink = JSON.stringify({
      query: "mutation ($id: ID!) { createLink(recordId: $id) { link { id } } }",
      variables: { id: new URL(url).searchParams.get("id") },
    });
    const headers = { "content-type": "application/json", authorization: `Bearer ${ann.token}` };
    const body = createLink;
    const answers = await flood(
      "share_link",
      async () => await fetch(`${service.url}/graphql`, { method: "POST", headers, body }),
    );
    expect((await client.run("{ me { name } }", {}, eve)).data.me.name).toBe("Eve");
    expect(await unlock(answers)).toEqual(new Set([200]));
  });

  it.each(["audio_record", "mp3_chunk"])("of one user's uploads that write to %s holds up no other", async (table) => {
    const answers = await flood(table, uploadOfNoSound, { mode: "share" });
    for (let request = 0; request < 10; request++) {
      expect((await client.run(`{ shared(url: "${url}") { title } }`)).errors).toBeUndefined();
    }
    expect(await unlock(answers)).toEqual(new Set([415]));
    expect((await service.server.database.pool.query("select from audio_record where state <> 'ready'")).rowCount).toBe(
      0,
    );
  });
});

describe("a flood that arrives in one moment", () => {
  const names = rawPost(Buffer.from('{"query":"{ __typename }"}'), { "content-type": "application/json" });
  const schema = Buffer.from("GET /schema.graphql HTTP/1.1\r\nhost: localhost\r\n\r\n");

  /** The answers to a flood of which a part has arrived before, and to another's request behind it, as they come. */
  async function answersTo(request: Buffer, bytesBefore: number): Promise<string[]> {
    await using service = await startService({ TRUST_PROXY: "127.0.0.1" });
    using open = new DisposableStack();
    const port = Number(new URL(service.url).port);
    const hostile = await Promise.all(Array.from({ length: 300 }, async () => open.use(await connectRaw(port))));
    const honest = open.use(await connectRaw(port));
    const answered: string[] = [];
    const takeAnswer = async (from: RawConnection, sender: string): Promise<void> => {
      expect((await from.answer())?.status).toBe(200);
      answered.push(sender);
    };
    await Promise.all(hostile.map(async (connection) => await connection.send(request.subarray(0, bytesBefore))));
    await honest.send(request);
    await takeAnswer(honest, "nobody");
    answered.length = 0;
    const all = hostile.map(async (connection) => await takeAnswer(connection, "hostile"));
    all.push(takeAnswer(honest, "honest"));
    for (const { socket } of hostile) socket.write(request.subarray(bytesBefore));
    honest.socket.write(request.toString("latin1").replace("host:", "x-forwarded-for: 198.51.100.7\r\nhost:"));
    await Promise.all(all);
    return answered;
  }

  it.each([
    ["as a whole", names, 0],
    ["with all bodies at once", names, names.indexOf("{")],
    ["for what needs no turn", schema, 0],
  ])("%s lets others pass", async (_how, request, bytesBefore) => {
    const answered = await answersTo(request, bytesBefore);
    expect(answered.length).toBe(301);
    expect(answered.indexOf("honest")).toBeLessThan(250);
  });

  it("on new connections lets a new connection behind it pass", async () => {
    await using database = await createTestDatabase();
    await using service = await startServiceProcess({ DATABASE_URL: database.url, TRUST_PROXY: "127.0.0.1" });
    using open = new DisposableStack();
    const answered: string[] = [];
    const sendFrom = async (sender: string, request: Buffer): Promise<void> => {
      const connection = open.use(await connectRaw(service.port));
      await connection.send(request);
      void connection.answer().then((answer) => answered.push(`${sender} ${answer?.status}`));
    };
    // The system takes connections for a process that stands still.
    service.child.kill("SIGSTOP");
    for (let i = 0; i < 300; i++) await sendFrom("hostile", names);
    await sendFrom(
      "honest",
      Buffer.from(names.toString("latin1").replace("host:", "x-forwarded-for: 198.51.100.7\r\nhost:")),
    );
    service.child.kill("SIGCONT");
    await until(
      () => answered.length,
      (count) => count === 301,
    );
    expect(new Set(answered)).toEqual(new Set(["hostile 200", "honest 200"]));
    expect(answered.indexOf("honest 200")).toBeLessThan(150);
  });
});

it("a request whose turn does not come is told to try again", async () => {
  await using service = await startService({ DATABASE_POOL_SIZE: "4", DATABASE_TIMEOUT_SECONDS: "2" });
  await using _holder = await beginTransaction(service.databaseUrl, "lock table share_link in access exclusive mode");
  const answers = await Promise.all(
    Array.from({ length: 20 }, async () => {
      const response = await fetch(service.url + noLink, { headers: { accept: "application/json" } });
      const { error } = (await response.json()) as { error: { message: string } };
      return [response.status, response.headers.get("retry-after"), error.message];
    }),
  );
  expect(answers).toContainEqual([503, "5", "Too many requests are waiting; try again in 5 seconds."]);
  expect(new Set(answers.map(([status]) => status))).toEqual(new Set([503]));
});
