import { describe, expect, it } from "@jest/globals";
import { execFile } from "node:child_process";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { needs } from "./support/needs.ts";

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

    it("compiles with relay-compiler: pages, refetching, and mutations that update the store", async () => {
      const artifacts = join(root, "dist/relay");
      await rm(artifacts, { recursive: true, force: true });
      await mkdir(artifacts);
      const compiler = join(tools, "node_modules/relay-compiler/cli.js");
      expect(await runNode(tools, compiler, "--output=quiet-with-errors")).toEqual(passed);
      expect(await readdir(artifacts)).toEqual(
        expect.arrayContaining([
          "LibraryDeleteMutation.graphql.js",
          "LibraryPageQuery.graphql.js",
          "LibraryRecordingQuery.graphql.js",
          "LibraryUploadMutation.graphql.js",
        ]),
      );
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
