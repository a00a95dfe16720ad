import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { ApiClient } from "./support/api-client.ts";
import { startService, type TestService } from "./support/service.ts";

const root = join(import.meta.dirname, "../..");

describe("the acceptance suite", () => {
  let service: TestService;

  beforeAll(async () => {
    service = await startService();
  });

  afterAll(async () => await service[Symbol.asyncDispose]());

  it("passes against this service, and leaves no user behind", async () => {
    const { code, output } = await runSuite({ BASE: service.url });
    expect(output).toMatch(/^# pass [1-9]/m);
    expect([code, output]).toEqual([0, expect.stringMatching(/^# fail 0\n[^]*^# skipped 0$/m)]);
    const { rows } = await service.server.database.pool.query("select count(*)::int as users from app_user");
    expect(rows).toEqual([{ users: 0 }]);
  });

  it("passes with tokens, where nobody can register, and leaves no recording behind", async () => {
    await using closed = await startService({ REGISTRATION: "closed", DATABASE_URL: service.databaseUrl });
    const open = new ApiClient(service.url);
    const [ann, bob] = [await open.createUser("Ann"), await open.createUser("Bob")];
    const refused = await runSuite({ BASE: closed.url }, "--test-name-pattern=ready");
    expect([refused.code, refused.output]).toEqual([1, expect.stringContaining("set TOKEN and OTHER_TOKEN")]);
    const tokens = { TOKEN: ann.token, OTHER_TOKEN: bob.token };
    const { code, output } = await runSuite(
      { BASE: closed.url, ...tokens },
      "--test-name-pattern=stored once|another user|mistake",
    );
    expect([code, output]).toEqual([0, expect.stringMatching(/^# pass [1-9]/m)]);
    const { data } = await open.run("{ me { usage { records } uploads { id } } }", {}, ann);
    expect(data.me).toEqual({ usage: { records: 0 }, uploads: [] });
  });
});

/** Runs `npm run acceptance` as it stands in package.json, but with a report for programs. */
async function runSuite(
  env: Readonly<Record<string, string>>,
  ...options: readonly string[]
): Promise<{ code: number; output: string }> {
  const { scripts } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as {
    scripts: { acceptance: string };
  };
  const args = ["--test-reporter=tap", ...options, ...scripts.acceptance.split(" ").slice(1)];
  return await new Promise((resolve) => {
    execFile(process.execPath, args, { cwd: root, env }, (error, stdout, stderr) =>
      resolve({ code: error ? Number(error.code) : 0, output: stdout + stderr }),
    );
  });
}
