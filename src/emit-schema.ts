import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { printErrorPage } from "./graphql/error-page.ts";
import { printSdl } from "./graphql/print-sdl.ts";
import { printEnvExample, withSettingsTable } from "./settings/setting-documents.ts";
import { createSchema } from "./schema.ts";

/** The committed SDL of the API. */
export const schemaFile = new URL("../../schema/schema.graphql", import.meta.url);

/** The page that explains the error codes. */
export const errorPageFile = new URL("../../docs/errors.md", import.meta.url);

/** Its table of settings is emitted. */
export const readmeFile = new URL("../../README.md", import.meta.url);

/** The example of an environment, with every setting. */
export const envExampleFile = new URL("../../.env.example", import.meta.url);

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await writeFile(schemaFile, printSdl(await createSchema()));
  await writeFile(errorPageFile, printErrorPage());
  await writeFile(readmeFile, withSettingsTable(await readFile(readmeFile, "utf8")));
  await writeFile(envExampleFile, printEnvExample());
}
