// node client-preset.js PACKAGE MODE FOLDER: does what graphql-codegen does with the client preset, for operations that
// select every field of the schema.
import { codegen } from "@graphql-codegen/core";
import { buildSchema, parse } from "graphql";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { operationsForEveryField } from "./every-field.js";

const [presetPackage, documentMode, folder] = process.argv.slice(2);
const { preset } = await import(presetPackage);
const examples = join(import.meta.dirname, "../../examples/codegen");
/** What the documents tell client developers to set. */
const { config } = JSON.parse(await readFile(join(examples, "codegen.json"), "utf8")).generates["operations.ts"];

const sdl = await readFile(join(import.meta.dirname, "../../schema/schema.graphql"), "utf8");
const schemaAst = buildSchema(sdl);
const rawSDL = operationsForEveryField(schemaAst);
const files = await preset.buildGeneratesSection({
  baseOutputDir: `${folder}/`,
  schema: parse(sdl),
  schemaAst,
  documents: [{ location: "every-field.graphql", document: parse(rawSDL), rawSDL }],
  plugins: [],
  pluginMap: {},
  presetConfig: {},
  config: { ...config, documentMode },
});
for (const file of files) await writeFile(file.filename, await codegen(file));
