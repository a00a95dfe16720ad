// TOKEN=... node examples/fetch.mjs examples/tone.wav
import { openAsBlob } from "node:fs";
import { basename } from "node:path";

const endpoint = process.env.ENDPOINT ?? "http://localhost:8000/graphql";
const path = process.argv[2];
// In a browser: the File of an <input type="file">.
const file = new File([await openAsBlob(path)], basename(path));

const query = `
  mutation UploadRecord($file: Upload!) {
    uploadRecord(file: $file) {
      record {
        id
        title
        url
      }
    }
  }
`;
const form = new FormData();
form.set("operations", JSON.stringify({ query, variables: { file: null } }));
form.set("map", JSON.stringify({ 0: ["variables.file"] }));
form.set("0", file); // after the other two

try {
  const answer = await fetch(endpoint, {
    method: "POST",
    headers: { authorization: `Bearer ${process.env.TOKEN}` },
    body: form,
  });
  const { data, errors } = await answer.json();
  if (errors) throw new Error(`${errors[0].extensions.code} ${errors[0].message}`);
  console.log(data.uploadRecord.record.url);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
