import { describe, expect, it } from "@jest/globals";
import { execFile } from "node:child_process";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { ApiClient } from "./support/api-client.ts";
import { needs } from "./support/needs.ts";
import { seedRecords } from "./support/seed-records.ts";
import { startService } from "./support/service.ts";

const root = join(import.meta.dirname, "../..");
const tools = join(root, "test/client-tools");
const passed = { code: 0, stdout: "", stderr: "" };

needs("the client tools", () => {
  describe("the schema, as the tools of client developers see it", () => {
    it("keeps the recommended rules and the Relay rules of graphql-eslint, with the exceptions in its settings", async () => {
      const config = join(tools, "eslint.config.js");
      const schema = "schema/schema.graphql";
      const eslint = join(tools, "node_modules/eslint/bin/eslint.js");
      expect(await runNode(root, eslint, "--max-warnings=0", `--config=${config}`, schema)).toEqual(passed);
    });

    describe("with Relay", () => {
      const artifacts = join(root, "dist/relay");

      async function compile(): Promise<typeof passed> {
        await rm(artifacts, { recursive: true, force: true });
        await mkdir(artifacts);
        return await runNode(tools, join(tools, "node_modules/relay-compiler/cli.js"), "--output=quiet-with-errors");
      }

      it("compiles: pages, refetching, and mutations that update the store", async () => {
        expect(await compile()).toEqual(passed);
        expect(await readdir(artifacts)).toEqual(
          expect.arrayContaining([
            "LibraryDeleteMutation.graphql.js",
            "LibraryPageQuery.graphql.js",
            "LibraryRecordingQuery.graphql.js",
            "LibraryUploadMutation.graphql.js",
          ]),
        );
      });

      it("joins the pages of a list in the store, and follows uploads, share links and deletions", async () => {
        await compile();
        const app = join(artifacts, "app.mjs");
        const esbuild = join(tools, "node_modules/.bin/esbuild");
        await promisify(execFile)(
          esbuild,
          ["relay-store.js", "--bundle", "--platform=node", "--format=esm", "--log-level=error", `--outfile=${app}`],
          { cwd: tools },
        );
        await using service = await startService();
        const client = new ApiClient(service.url);
        const ann = await client.createUser("Ann");
        await seedRecords(service.server.database.pool, { ownerId: ann.id, count: 5 });
        const env = { PATH: process.env["PATH"], ENDPOINT: `${service.url}/graphql`, TOKEN: ann.token };
        const { stdout } = await promisify(execFile)(process.execPath, [app, join(root, "examples/tone.wav")], { env });
        const five = ["Gig take 5", "Waltz take 4", "Blues take 3", "Rehearsal take 2", "Evening take 1"];
        const seededBytes = 24_000 * (5 + 4 + 3 + 2 + 1);
        const step = (titles: string[], usedBytes: unknown, links = titles.map(() => 0)) => ({
          titles,
          links,
          usedBytes,
        });
        const { data } = await client.run("{ me { usage { bytes } } }", {}, ann);
        expect(JSON.parse(stdout)).toEqual([
          step(five.slice(0, 2), seededBytes),
          step(five.slice(0, 4), seededBytes),
          step(five, seededBytes),
          step(["tone", ...five], seededBytes), // the mutation does not ask for the usage
          step(["tone", ...five], seededBytes, [1, 0, 0, 0, 0, 0]),
          step(["tone", ...five.slice(1)], data.me.usage.bytes, [1, 0, 0, 0, 0]),
        ]);
      });
    });

    describe.each(["client-preset-5", "client-preset-6"])("with every field, through %s", (preset) => {
      it.each(["documentNode", "string"])("gets TypeScript that compiles, in the mode %s", async (mode) => {
        const folder = join(root, `dist/${preset}-${mode}`);
        await rm(folder, { recursive: true, force: true });
        await mkdir(folder);
        expect(await runNode(root, join(tools, "client-preset.js"), preset, mode, folder)).toEqual(passed);
        const compilerOptions = {
          target: "es2024",
          lib: ["es2024", "dom"],
          module: "esnext",
          moduleResolution: "bundler",
          types: [],
          strict: true,
          noEmit: true,
          skipLibCheck: true,
        };
        await writeFile(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["index.ts"] }));
        const compiled = await runNode(root, join(root, "node_modules/typescript/bin/tsc"), "-p", folder);
        expect(compiled).toEqual(passed);
      });
    });
  });
});

/** Runs a program of Node in a folder. */
async function runNode(cwd: string, program: string, ...args: readonly string[]): Promise<typeof passed> {
  return await new Promise((resolve) => {
    const child = execFile(process.execPath, [program, ...args], { cwd }, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}
