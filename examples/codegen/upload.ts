// TOKEN=... node examples/codegen/upload.ts examples/tone.wav
import { Client, fetchExchange, type CombinedError } from "@urql/core";
import { openAsBlob } from "node:fs";
import { basename } from "node:path";
import { MyRecordsDocument, UploadRecordDocument } from "./operations.ts"; // written by graphql-codegen

const endpoint = process.env.ENDPOINT ?? "http://localhost:8000/graphql";
const path = process.argv[2]!;
const file = new File([await openAsBlob(path)], basename(path));

const client = new Client({
  url: endpoint,
  exchanges: [fetchExchange],
  fetchOptions: { headers: { authorization: `Bearer ${process.env.TOKEN}` } },
});

// Variables and results have the types of the schema: a misspelt field or a number as the title does not compile.
const upload = await client.mutation(UploadRecordDocument, { file, title: "Tone" });
if (upload.error) refused(upload.error);
console.log(upload.data?.uploadRecord?.record.url);

const library = await client.query(MyRecordsDocument, { text: "tone" });
if (library.error) refused(library.error);
for (const { title, durationSeconds } of library.data?.me.records?.nodes ?? []) {
  console.log(`${title}: ${durationSeconds.toFixed(1)} s`);
}

function refused({ graphQLErrors: [refusal], networkError }: CombinedError): never {
  console.error(refusal ? `${String(refusal.extensions.code)} ${refusal.message}` : networkError?.message);
  process.exit(1);
}
