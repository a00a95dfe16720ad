// A library with urql and its normalized cache: pages, uploads, deletions, and a cache that follows them.
import { cacheExchange } from "@urql/exchange-graphcache";
import { relayPagination } from "@urql/exchange-graphcache/extras";
import { useState } from "react";
import { Client, Provider, fetchExchange, gql, useMutation, useQuery } from "urql";

/** Forgets the pages of a user's lists; they are fetched again when they are shown. */
const forgetLists = (cache, user) => {
  for (const { fieldName, fieldKey } of cache.inspectFields(user)) {
    if (fieldName === "records") cache.invalidate(user, fieldKey);
  }
};

export const createClient = (endpoint, token) =>
  new Client({
    url: endpoint,
    fetchOptions: { headers: { authorization: `Bearer ${token}` } },
    exchanges: [
      cacheExchange({
        resolvers: { User: { records: relayPagination() } },
        updates: {
          Mutation: {
            uploadRecord: ({ uploadRecord }, _args, cache) =>
              uploadRecord && forgetLists(cache, uploadRecord.record.owner),
            deleteRecord: ({ deleteRecord }, _args, cache) => deleteRecord && forgetLists(cache, deleteRecord.user),
          },
        },
      }),
      fetchExchange,
    ],
  });

const LIBRARY = gql`
  query Library($after: String) {
    me {
      id
      records(first: 20, after: $after) {
        totalCount
        edges {
          node {
            id
            title
            streamUrl
          }
        }
        pageInfo {
          hasNextPage
          endCursor
        }
      }
    }
  }
`;
const UPLOAD = gql`
  mutation Upload($file: Upload!) {
    uploadRecord(file: $file) {
      record {
        id
        owner {
          id
        }
      }
    }
  }
`;
const DELETE = gql`
  mutation Delete($id: ID!) {
    deleteRecord(id: $id) {
      deletedId
      user {
        id
      }
    }
  }
`;

function Library() {
  const [problem, setProblem] = useState("");
  const [after, setAfter] = useState(null);
  const [{ data, error }] = useQuery({ query: LIBRARY, variables: { after } });
  const [{ fetching }, upload] = useMutation(UPLOAD);
  const [, remove] = useMutation(DELETE);

  /** After a change, the list begins with its first page again. */
  const change = async (running) => {
    setProblem("");
    const { error } = await running;
    if (error) setProblem(textOf(error));
    else setAfter(null);
  };

  if (error) return <p role="alert">{textOf(error)}</p>;
  if (!data?.me.records) return <p>Loading</p>;
  const { totalCount, edges, pageInfo } = data.me.records;
  return (
    <>
      <h1>{totalCount} recordings</h1>
      <input
        type="file"
        accept=".wav,audio/wav"
        disabled={fetching}
        onChange={({ target }) => change(upload({ file: target.files[0] }))}
      />
      <p role="alert">{problem}</p>
      {edges.map(({ node }) => (
        <p key={node.id}>
          <a href={node.streamUrl}>{node.title}</a>{" "}
          <button onClick={() => change(remove({ id: node.id }))}>Delete</button>
        </p>
      ))}
      {pageInfo.hasNextPage && <button onClick={() => setAfter(pageInfo.endCursor)}>More</button>}
    </>
  );
}

const textOf = ({ graphQLErrors: [refusal], networkError }) =>
  refusal ? `${refusal.extensions.code} ${refusal.message}` : networkError.message;

export const App = ({ client }) => (
  <Provider value={client}>
    <Library />
  </Provider>
);
