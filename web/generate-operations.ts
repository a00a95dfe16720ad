import { codegen } from "@graphql-codegen/core";
import * as typedDocumentNode from "@graphql-codegen/typed-document-node";
import * as typescriptOperations from "@graphql-codegen/typescript-operations";
import { parse } from "graphql";
import { readFile, writeFile } from "node:fs/promises";

/**
 * Writes the page's GraphQL documents as strings with types, from the committed SDL: `npm run schema` does it, and a test
 * compares. The argument is the file to write instead of `web/api/operations.ts`.
 */
const read = async (path: string) => parse(await readFile(new URL(path, import.meta.url), "utf8"));
const text = await codegen({
  filename: "operations.ts",
  schema: await read("../schema/schema.graphql"),
  documents: [{ location: "operations.graphql", document: await read("api/operations.graphql") }],
  plugins: [{ "typescript-operations": {} }, { "typed-document-node": {} }],
  pluginMap: { "typescript-operations": typescriptOperations, "typed-document-node": typedDocumentNode },
  config: {
    documentMode: "string",
    useTypeImports: true,
    strictScalars: true,
    skipTypename: true,
    enumsAsTypes: true,
    scalars: {
      DateTime: "string",
      NonNegativeFloat: "number",
      SafeInt: "number",
      URL: "string",
      UUID: "string",
      Upload: "null",
    },
  },
});
await writeFile(process.argv[2] ?? new URL("api/operations.ts", import.meta.url), text);
