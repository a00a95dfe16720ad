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
/** A document with the types of its answer and its variables. */
const typed = `export interface TypedDocumentString<TResult, TVariables> extends DocumentTypeDecoration<TResult, TVariables> {
  toString(): string;
}`;
const text = await codegen({
  filename: "operations.ts",
  schema: await read("../schema/schema.graphql"),
  documents: [{ location: "operations.graphql", document: await read("api/operations.graphql") }],
  plugins: [{ "typescript-operations": {} }, { "typed-document-node": { pureMagicComment: true } }],
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
// Browsers load them, so each document is a plain string on one line, without the class around it.
const short = text
  .replaceAll(/`\s*(?:fragment|query|mutation) [^`]*`/g, (document) =>
    document.replaceAll(/\s+/g, " ").replaceAll(/` | `/g, "`"),
  )
  .replaceAll(/\/\*#__PURE__\*\/ new TypedDocumentString\((`[^`]*`)[^`]*?\) as unknown/g, "$1 as unknown")
  .replace(/export class TypedDocumentString.*?^}$/ms, typed);
await writeFile(process.argv[2] ?? new URL("api/operations.ts", import.meta.url), short);
