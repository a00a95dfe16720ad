// TOKEN=... node examples/apollo-client.mjs examples/tone.wav
import { ApolloClient, CombinedGraphQLErrors, InMemoryCache, gql } from "@apollo/client";
import UploadHttpLink from "apollo-upload-client/UploadHttpLink.mjs";
import { openAsBlob } from "node:fs";
import { basename } from "node:path";

const endpoint = process.env.ENDPOINT ?? "http://localhost:8000/graphql";
const path = process.argv[2];
// In a browser: the File of an <input type="file">.
const file = new File([await openAsBlob(path)], basename(path));

const client = new ApolloClient({
  cache: new InMemoryCache(),
  link: new UploadHttpLink({
    uri: endpoint,
    headers: { authorization: `Bearer ${process.env.TOKEN}` },
  }),
});

try {
  const { data } = await client.mutate({
    mutation: gql`
      mutation UploadRecord($file: Upload!) {
        uploadRecord(file: $file) {
          record {
            id
            title
            url
          }
        }
      }
    `,
    variables: { file },
  });
  console.log(data.uploadRecord.record.url);
} catch (error) {
  if (CombinedGraphQLErrors.is(error)) console.error(error.errors[0].extensions.code, error.errors[0].message);
  else console.error(error.message); // the error does not come from the service
  process.exitCode = 1;
}
