import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { execFile } from "node:child_process";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApiClient } from "./support/api-client.ts";
import { programEnv, startServiceProcess } from "./support/service-process.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

const program = join(import.meta.dirname, "../src/user-command.js");

interface Ended {
  readonly code: number;
  readonly said: string;
  readonly complaint: string;
}

/** Runs the command as an operator does. */
async function run(env: Readonly<Record<string, string>>, ...args: string[]): Promise<Ended> {
  return await new Promise((resolve) => {
    const options = { env: { ...programEnv, ...env } };
    execFile(process.execPath, [program, ...args], options, (error, stdout, stderr) => {
      resolve({ code: error ? Number(error.code) : 0, said: stdout, complaint: stderr });
    });
  });
}

const uuid = /[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[\da-f]{4}-[\da-f]{12}/;

describe("the operator's command, beside a service on the same database", () => {
  let service: TestService;
  let client: ApiClient;
  const command = async (...args: string[]) => await run({ DATABASE_URL: service.databaseUrl }, ...args);
  const answerOf = async (...args: string[]): Promise<any> => {
    const { code, said, complaint } = await command(...args, "--json");
    expect([code, complaint]).toEqual([0, ""]);
    return JSON.parse(said);
  };

  beforeAll(async () => {
    service = await startService({ REGISTRATION: "invite" });
    client = new ApiClient(service.url);
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  it("creates a user whose token works, and says what it did", async () => {
    const { code, said } = await command("create", "王小明 & Söhne");
    expect(code).toBe(0);
    expect(said).toMatch(/^User \d+: 王小明 & Söhne\nToken \(shown only now\): \S+\n$/);
    const [, id = ""] = /^User (\d+)/.exec(said)!;
    const [token = ""] = uuid.exec(said)!;
    expect((await client.run("{ me { id } }", {}, { id, token })).data.me).toEqual({ id });
    expect((await command("list", "--name", "söhne")).said).toMatch(
      /^id +created \(UTC\) +records +bytes +name\n\d+ .+ vouched for +王小明 & Söhne\n$/,
    );
  });

  it("creates an invitation for one user, and revokes others", async () => {
    const { code } = await answerOf("invite", "--days", "2");
    const createUser = 'mutation ($invite: String) { createUser(name: "Bob", invite: $invite) { user { id } } }';
    expect((await client.run(createUser, { invite: code })).status).toBe(200);
    const { said } = await command("invite");
    expect(await answerOf("invite", "--revoke")).toEqual({ revoked: 1 });
    expect((await client.run(createUser, { invite: uuid.exec(said)![0] })).status).toBe(400);
  });

  it("creates a new token for a user, and revokes stolen ones", async () => {
    const { id, token } = await answerOf("create", "Carl");
    const given = await answerOf("token", `${id}`);
    const me = async (its: string) => (await client.run("{ me { id } }", {}, { id: `${id}`, token: its })).status;
    expect([await me(token), await me(given.token)]).toEqual([200, 200]);
    const last = await answerOf("token", `${id}`, "--revoke-others", "--name", "after the theft");
    expect(last.revoked).toBe(2);
    expect([await me(token), await me(given.token), await me(last.token)]).toEqual([401, 401, 200]);
    expect((await command("token", `${id}`, "--revoke-others", "--name", "")).code).not.toBe(0);
    expect(await me(last.token)).toBe(200);
  });

  it("disables and enables, sets quotas, and deletes with everything", async () => {
    const { id, token } = await answerOf("create", "Dora");
    const dora = { id: `${id}`, token };
    const upload = async () => await client.uploadRecord(dora, sineWav({ seconds: 0.1 }));
    const { data } = await upload();
    expect((await command("disable", `${id}`)).said).toBe(`User ${id} (Dora) is disabled.\n`);
    expect((await upload()).errors![0]!.extensions.code).toBe("USER_DISABLED");
    expect((await answerOf("list"))[0]).toMatchObject({ id, disabledAt: expect.any(String), usage: { records: 1 } });
    await command("enable", `${id}`);

    expect(await answerOf("quota", `${id}`, "--records", "1", "--bytes", "none")).toMatchObject({
      usage: { records: 1 },
      limits: { bytes: null, seconds: 180_000, records: 1 },
    });
    expect((await upload()).errors![0]!.extensions).toMatchObject({ code: "QUOTA_EXCEEDED", max: 1 });
    expect((await command("quota", `${id}`, "--records", "default")).said).toContain("records: 1 of 5000\n");
    expect((await upload()).status).toBe(200);

    const kept = await command("delete", `${id}`);
    expect([kept.code, kept.complaint]).toEqual([2, expect.stringContaining("Confirm it with --yes")]);
    expect((await command("delete", `${id}`, "--yes")).said).toBe(`User ${id} (Dora) is deleted.\n`);
    expect((await fetch(data.uploadRecord.record.url)).status).toBe(404);
  });

  it("never prints a hash", async () => {
    const { rows } = await service.server.database.pool.query(
      "select encode(sha256, 'hex') as hex, encode(sha256, 'base64') as base64 from access_token",
    );
    const { said } = await command("list", "--json");
    for (const { hex, base64 } of rows) for (const hash of [hex, base64]) expect(said).not.toContain(hash);
  });

  it.each([
    [["disable", "999999"], 1, "There is no user 999999."],
    [["quota", "999999", "--bytes", "1"], 1, "There is no user 999999."],
    [["create"], 2, "create needs the name of the user."],
    [["create", "Ann", "Lee"], 2, "Unexpected argument: Lee. Put a name with spaces in quotes."],
    [["disable"], 2, "Give the user's number"],
    [["disable", "Ann"], 2, "The user's id must be a whole number"],
    [["quota", "1", "--bytes", "1e9"], 2, "--bytes must be a whole number"],
    [["quota", "1", "--color"], 2, "--color"],
    [["delete", "1", "--days", "3"], 2, "delete does not support --days."],
    [["invite", "--days", "0"], 2, "--days must be a whole number from 1 to 366."],
    [["promote", "1"], 2, "Unknown command: promote."],
  ])("refuses %j with exit code %d", async (args, code, sentence) => {
    const ended = await command(...args);
    expect([ended.code, ended.said]).toEqual([code, ""]);
    expect(ended.complaint).toContain(sentence);
    expect(ended.complaint).not.toMatch(/\n\s+at /);
  });

  it("explains itself without a database", async () => {
    const { code, said } = await run({ DATABASE_URL: "postgresql://nobody@127.0.0.1:1/nothing" }, "--help");
    expect(code).toBe(0);
    for (const name of ["create", "list", "invite", "disable", "enable", "token", "quota", "delete"]) {
      expect(said).toContain(`\n  ${name} `);
    }
    const failed = await run({ DATABASE_URL: "postgresql://nobody@127.0.0.1:1/nothing" }, "list");
    expect([failed.code, failed.complaint]).toEqual([1, expect.stringContaining("cannot be used")]);
    expect((await run({ PORT: "x" }, "list")).complaint).toBe("PORT must be an integer from 0 to 65535\n");
  });
});

it("finds the embedded database of a running service, and starts it if none is running", async () => {
  const folder = await mkdtemp(join(tmpdir(), "user-command-"));
  // If run as root, PostgreSQL runs as another user, who must be able to enter.
  await chmod(folder, 0o711);
  const env = { DATA_DIR: join(folder, "data") };
  try {
    const alone = await run(env, "create", "Ann");
    expect([alone.code, alone.said]).toEqual([0, expect.stringMatching(/^User 1: Ann\n/)]);
    {
      await using service = await startServiceProcess(env);
      const beside = await run({ ...env, TMPDIR: folder }, "create", "Bob", "--json");
      expect([beside.code, beside.complaint]).toEqual([0, ""]);
      const { id, token } = JSON.parse(beside.said);
      const { data } = await new ApiClient(service.url).run("{ me { id } }", {}, { id: `${id}`, token });
      expect(data.me).toEqual({ id: "2" });
    }
    const afterwards = await run(env, "list", "--json");
    expect([afterwards.code, JSON.parse(afterwards.said)]).toMatchObject([0, [{ name: "Bob" }, { name: "Ann" }]]);
  } finally {
    await rm(folder, { recursive: true });
  }
});
