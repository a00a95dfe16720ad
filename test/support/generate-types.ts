import { codegen } from "@graphql-codegen/core";
import * as typedDocumentNode from "@graphql-codegen/typed-document-node";
import * as typescriptOperations from "@graphql-codegen/typescript-operations";
import { parse } from "graphql";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

/**
 * Does what `graphql-codegen` does with the settings of the example, but without the packages of its command line, and
 * writes the files to the folder given as argument. It is a separate program, because Jest loads these packages slowly.
 */
const [folder] = process.argv.slice(2);
if (folder === undefined) throw new Error("Give the folder to write to");
const examples = join(import.meta.dirname, "../../../examples");
const at = join(examples, "codegen");
const { schema, documents, generates } = JSON.parse(await readFile(join(at, "codegen.json"), "utf8"));
const pluginMap = { "typescript-operations": typescriptOperations, "typed-document-node": typedDocumentNode };
for (const [filename, { plugins, config }] of Object.entries<any>(generates)) {
  const text = await codegen({
    filename,
    schema: parse(await readFile(join(at, schema), "utf8")),
    documents: [{ location: documents, document: parse(await readFile(join(at, documents), "utf8")) }],
    plugins: plugins.map((name: string) => ({ [name]: {} })),
    pluginMap,
    config,
  });
  await writeFile(join(folder, filename), text);
}
