// An app with Relay, without its views: it reads a library page by page, uploads, shares and deletes, and prints what its
// store shows after each step. `esbuild` bundles it with what relay-compiler has made.
import { openAsBlob } from "node:fs";
import {
  commitMutation,
  ConnectionHandler,
  createOperationDescriptor,
  Environment,
  fetchQuery,
  getSingularSelector,
  Network,
  RecordSource,
  Store,
} from "relay-runtime";
import deletion from "../../dist/relay/LibraryDeleteMutation.graphql.js";
import nextPage from "../../dist/relay/LibraryPageQuery.graphql.js";
import library from "../../dist/relay/LibraryQuery.graphql.js";
import sharing from "../../dist/relay/LibraryShareMutation.graphql.js";
import uploading from "../../dist/relay/LibraryUploadMutation.graphql.js";
import recordingFragment from "../../dist/relay/Library_recording.graphql.js";
import userFragment from "../../dist/relay/Library_user.graphql.js";

const { ENDPOINT: endpoint, TOKEN: token } = process.env;
const authorization = `Bearer ${token}`;

/** Sends an operation: as JSON, or with its file as a form. */
async function send({ text: query }, variables, _cacheConfig, uploadables) {
  let [headers, body] = [{ authorization, "content-type": "application/json" }, JSON.stringify({ query, variables })];
  if (uploadables) {
    [headers, body] = [{ authorization }, new FormData()];
    body.set("operations", JSON.stringify({ query, variables: { ...variables, file: null } }));
    body.set("map", JSON.stringify({ 0: ["variables.file"] }));
    body.set("0", uploadables.file);
  }
  return await (await fetch(endpoint, { method: "POST", headers, body })).json();
}

const environment = new Environment({ network: Network.create(send), store: new Store(new RecordSource()) });
const variables = { count: 2 };
const operation = createOperationDescriptor(library, variables);
environment.retain(operation);

/** What the store shows of the library. */
function shown() {
  const { me } = environment.lookup(operation.fragment).data;
  const { data, isMissingData } = environment.lookup(getSingularSelector(userFragment, me));
  if (isMissingData) throw new Error("The store lacks a part of the library.");
  const nodes = data.records.edges.map(({ node }) => node);
  const recordings = nodes.map((node) => environment.lookup(getSingularSelector(recordingFragment, node)).data);
  return {
    userId: me.id,
    ids: nodes.map(({ id }) => id),
    titles: recordings.map(({ title }) => title),
    links: recordings.map(({ links }) => links.length),
    usedBytes: data.usage.bytes,
    pageInfo: data.records.pageInfo,
  };
}

const steps = [];
function note() {
  const { titles, links, usedBytes } = shown();
  steps.push({ titles, links, usedBytes });
}

/** Runs a mutation. It fails as the service does. */
async function change(mutation, given, uploadables) {
  const { userId } = shown();
  const connections = [ConnectionHandler.getConnectionID(userId, "Library_records", { filter: undefined })];
  await new Promise((resolve, reject) => {
    commitMutation(environment, {
      mutation,
      variables: { ...given, connections },
      uploadables,
      onCompleted: (_response, errors) => (errors ? reject(new Error(errors[0].message)) : resolve()),
      onError: reject,
    });
  });
  note();
}

await fetchQuery(environment, library, variables).toPromise();
note();
while (shown().pageInfo.hasNextPage) {
  const { userId, pageInfo } = shown();
  await fetchQuery(environment, nextPage, { ...variables, id: userId, after: pageInfo.endCursor }).toPromise();
  note();
}
const file = new File([await openAsBlob(process.argv[2])], "tone.wav");
await change(uploading, { file: null, key: crypto.randomUUID() }, { file });
await change(sharing, { id: shown().ids[0] });
await change(deletion, { id: shown().ids[1] });
console.log(JSON.stringify(steps));
