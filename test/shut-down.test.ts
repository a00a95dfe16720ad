import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { Agent, request } from "node:http";
import { text } from "node:stream/consumers";
import { Client } from "pg";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { ffmpegChildrenOf } from "./support/ffmpeg.ts";
import { startHalfUpload } from "./support/half-upload.ts";
import { connectRaw } from "./support/raw-http.ts";
import { spawnService, startServiceProcess, type ServiceProcess } from "./support/service-process.ts";
import { createTestDatabase, type TestDatabase } from "./support/test-database.ts";
import { beginTransaction } from "./support/transaction.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

const wav = sineWav({ seconds: 20, channels: 2 });

describe("stopping", () => {
  let database: TestDatabase;
  let service: ServiceProcess;
  let client: ApiClient;
  let ann: Credentials;

  beforeEach(async () => {
    database = await createTestDatabase();
  });

  afterEach(async () => {
    await service?.[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
  });

  async function start(env: Record<string, string> = {}): Promise<void> {
    service = await startServiceProcess({ DATABASE_URL: database.url, ENCODERS: "1", ...env });
    client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
  }

  async function countRecords(): Promise<Record<string, unknown>> {
    const connection = new Client({ connectionString: database.url });
    await connection.connect();
    const { rows } = await connection.query("select state, count(*)::int from audio_record group by state");
    await connection.end();
    return Object.fromEntries(rows.map(({ state, count }) => [state, count]));
  }

  async function startUpload() {
    const upload = await startHalfUpload(service.port, ann, wav);
    expect(await until(countRecords, ({ receiving }) => receiving === 1)).toEqual({ receiving: 1 });
    return upload;
  }

  const readiness = async () => (await fetch(`${service.url}/readyz`)).status;

  it("continues for a while, but unready, so that a load balancer can turn away", async () => {
    await start({ SHUTDOWN_DELAY_SECONDS: "2" });
    service.child.kill("SIGTERM");
    expect(await until(readiness, (status) => status === 503)).toBe(503);
    expect((await client.createUser("Bob")).id).toBe("2");
    expect(await service.ended).toBe(0);
  });

  it("lets uploads finish, is not ready meanwhile, refuses new ones even on open connections, and answers queries", async () => {
    await start();
    using agent = disposableAgent();
    expect((await post(service.url, agent, "{ __typename }", ann)).status).toBe(200);
    using upload = await startUpload();
    service.child.kill("SIGTERM");
    expect(await until(readiness, (status) => status === 503)).toBe(503);

    const create = await post(service.url, agent, 'mutation { createUser(name: "Bob") { token } }', ann);
    expect(create.status).toBe(503);
    expect(create.headers["retry-after"]).toBe("5");
    expect(JSON.parse(create.body).errors[0].extensions).toMatchObject({ code: "SHUTTING_DOWN", retryAfterSeconds: 5 });
    const second = await client.uploadRecord(ann, sineWav({ seconds: 0.2 }));
    expect(second.status).toBe(503);
    expect(second.errors![0]!.extensions.code).toBe("SHUTTING_DOWN");
    expect((await client.run("{ me { id } }", {}, ann)).data.me.id).toBe(ann.id);

    await upload.finish();
    const answer = await upload.connection.answer();
    expect(answer!.status).toBe(200);
    expect(JSON.parse(answer!.body).data.uploadRecord.record.durationSeconds).toBe(20);
    expect(await service.ended).toBe(0);
    expect(await countRecords()).toEqual({ ready: 1 });
  });

  it("cancels uploads that do not finish in time with a code, and leaves nothing", async () => {
    await start({ SHUTDOWN_GRACE_SECONDS: "1" });
    using upload = await startUpload();
    const children = await until(
      async () => await ffmpegChildrenOf(service.child.pid),
      (found) => found.length > 0,
    );
    service.child.kill("SIGTERM");
    const answer = await upload.connection.answer();
    expect(answer!.status).toBe(503);
    expect(JSON.parse(answer!.body).errors[0].extensions.code).toBe("SHUTTING_DOWN");
    expect(await service.ended).toBe(0);
    expect(await countRecords()).toEqual({});
    for (const child of children) expect(() => process.kill(child, 0)).toThrow("ESRCH");
  });

  it("is not delayed by idle connections, half a request, or a download that nobody reads", async () => {
    await start({ SHUTDOWN_GRACE_SECONDS: "1" });
    const uploaded = await client.uploadRecord(ann, sineWav({ seconds: 30, channels: 2 }), {
      args: ", quality: HIGH",
    });
    const { pathname, search } = new URL(uploaded.data.uploadRecord.record.url);
    using idle = await connectRaw(service.port);
    using half = await connectRaw(service.port);
    await half.send("GET /healthz HTTP/1.1\r\nHost: a\r\n");
    using download = await connectRaw(service.port);
    download.socket.pause();
    await download.send(`GET ${pathname}${search} HTTP/1.1\r\nHost: a\r\n\r\n`.repeat(20));
    await readiness();
    service.child.kill("SIGTERM");
    expect(await service.ended).toBe(0);
    idle.reset();
  });

  it("is not delayed by a connection whose response comes while it stops", async () => {
    await start({ SHUTDOWN_GRACE_SECONDS: "600" });
    using agent = disposableAgent();
    await using lock = await beginTransaction(database.url, "lock table app_user");
    const answer = post(service.url, agent, "{ me { id } }", ann);
    expect(await lock.untilWaiting(1)).toBe(1);
    service.child.kill("SIGTERM");
    const refuses = async () =>
      await readiness().then(
        () => false,
        () => true,
      );
    expect(await until(refuses, (refused) => refused)).toBe(true);
    await lock.commit();
    expect((await answer).status).toBe(200);
    expect(await service.ended).toBe(0);
  });

  it("is not delayed by a connection on which nothing was asked, as browsers open some in advance", async () => {
    await start({ SHUTDOWN_GRACE_SECONDS: "600" });
    using _connection = await connectRaw(service.port, true);
    expect(await readiness()).toBe(200); // so that the connection has been accepted
    service.child.kill("SIGTERM");
    expect(await service.ended).toBe(0);
  });

  it("is not delayed by a refused client that neither sends nor disconnects", async () => {
    await start({ SHUTDOWN_GRACE_SECONDS: "600" });
    using connection = await connectRaw(service.port, true);
    await connection.send("POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
    expect((await connection.answer())!.status).toBe(404);
    service.child.kill("SIGTERM");
    expect(await service.ended).toBe(0);
  });

  it("ends at once at a second signal", async () => {
    await start({ SHUTDOWN_GRACE_SECONDS: "600" });
    using _upload = await startUpload();
    service.child.kill("SIGTERM");
    expect(await until(readiness, (status) => status === 503)).toBe(503);
    // A signal at the same time as the first one does not count: a terminal and npm both pass on Ctrl-C.
    await until(
      () => service.child.kill("SIGTERM") && service.child.exitCode,
      (code) => code !== null,
    );
    expect(await service.ended).toBe(1);
  });

  it("handles a signal that arrives while it starts", async () => {
    const { child, ended, log } = spawnService({ DATABASE_URL: database.url });
    child.stdout!.once("data", () => child.kill("SIGTERM")); // the first migration
    child.stdout!.resume();
    expect({ code: await ended, log }).toEqual({ code: 0, log: [] });
  });
});

function disposableAgent(): Agent & Disposable {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  return Object.assign(agent, { [Symbol.dispose]: () => agent.destroy() });
}

/** Sends a query on a connection that stays open. `fetch` does not guarantee that. */
async function post(url: string, agent: Agent, query: string, user: Credentials) {
  const { promise, resolve, reject } = Promise.withResolvers<import("node:http").IncomingMessage>();
  const headers = { "content-type": "application/json", authorization: `Bearer ${user.token}` };
  request(`${url}/graphql`, { method: "POST", agent, headers }, resolve)
    .on("error", reject)
    .end(JSON.stringify({ query }));
  const response = await promise;
  return { status: response.statusCode, headers: response.headers, body: await text(response) };
}
