// TOKEN=... node examples/urql.mjs examples/tone.wav
import { Client, cacheExchange, fetchExchange, gql } from "@urql/core";
import { openAsBlob } from "node:fs";
import { basename } from "node:path";

const endpoint = process.env.ENDPOINT ?? "http://localhost:8000/graphql";
const path = process.argv[2];
// In a browser: the File of an <input type="file">.
const file = new File([await openAsBlob(path)], basename(path));

const client = new Client({
  url: endpoint,
  exchanges: [cacheExchange, fetchExchange],
  fetchOptions: { headers: { authorization: `Bearer ${process.env.TOKEN}` } },
});

const mutation = gql`
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
const { data, error } = await client.mutation(mutation, { file });
if (error) {
  if (error.networkError)
    console.error(error.networkError.message); // the error does not come from the service
  else console.error(error.graphQLErrors[0].extensions.code, error.graphQLErrors[0].message);
  process.exitCode = 1;
} else {
  console.log(data.uploadRecord.record.url);
}
