// TOKEN=... node examples/axios.mjs examples/tone.wav
import axios from "axios";
import { openAsBlob } from "node:fs";
import { basename } from "node:path";

const endpoint = process.env.ENDPOINT ?? "http://localhost:8000/graphql";
const path = process.argv[2];
// In a browser: the File of an <input type="file">.
const file = new File([await openAsBlob(path)], basename(path));

const form = new FormData();
const query = "mutation ($file: Upload!) { uploadRecord(file: $file) { record { url } } }";
form.set("operations", JSON.stringify({ query, variables: { file: null } }));
form.set("map", JSON.stringify({ 0: ["variables.file"] }));
form.set("0", file); // after the other two

try {
  const { data } = await axios.post(endpoint, form, {
    headers: { authorization: `Bearer ${process.env.TOKEN}` },
    onUploadProgress: ({ progress = 0 }) => showProgress(progress),
    validateStatus: () => true, // an error of the service is in the body, whatever its status
  });
  if (data.errors) throw new Error(`${data.errors[0].extensions.code} ${data.errors[0].message}`);
  console.log(data.data.uploadRecord.record.url);
} catch (error) {
  console.error(error.message || error.code);
  process.exitCode = 1;
}

/** @param progress from 0 to 1 */
function showProgress(progress) {
  if (process.stderr.isTTY) process.stderr.write(`\r${Math.round(progress * 100)} %\n`);
}
