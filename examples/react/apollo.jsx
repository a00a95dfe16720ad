// A library with Apollo Client: pages, uploads, deletions, and a cache that follows them.
import { ApolloClient, CombinedGraphQLErrors, InMemoryCache, gql } from "@apollo/client";
import { ApolloProvider, useMutation, useQuery } from "@apollo/client/react";
import { relayStylePagination } from "@apollo/client/utilities";
import UploadHttpLink from "apollo-upload-client/UploadHttpLink.mjs";
import { useState } from "react";

export const createClient = (endpoint, token) =>
  new ApolloClient({
    cache: new InMemoryCache({
      // Joins the pages of a list. Another filter or another order makes another list.
      typePolicies: { User: { fields: { records: relayStylePagination(["filter", "orderBy"]) } } },
    }),
    link: new UploadHttpLink({ uri: endpoint, headers: { authorization: `Bearer ${token}` } }),
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
      created
      record {
        id
        title
        streamUrl
        owner {
          id
          records(first: 0) {
            totalCount
          }
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
        records(first: 0) {
          totalCount
        }
      }
    }
  }
`;

function Library() {
  const [problem, setProblem] = useState("");
  const onError = (error) => setProblem(textOf(error));
  const { data, error, fetchMore } = useQuery(LIBRARY);
  const [upload, { loading }] = useMutation(UPLOAD, {
    onError,
    // totalCount follows by itself. The recording has to enter the list.
    update: (cache, { data: { uploadRecord } }) => {
      const edge = { __typename: "RecordEdge", node: uploadRecord.record };
      cache.updateQuery({ query: LIBRARY }, ({ me }) => ({
        me: {
          ...me,
          records: { ...me.records, edges: uploadRecord.created ? [edge, ...me.records.edges] : me.records.edges },
        },
      }));
    },
  });
  const [remove] = useMutation(DELETE, {
    onError,
    // The recording leaves every list.
    update: (cache, { data: { deleteRecord } }) => {
      cache.evict({ id: cache.identify({ __typename: "Recording", id: deleteRecord.deletedId }) });
      cache.gc();
    },
  });

  if (error) return <p role="alert">{textOf(error)}</p>;
  if (!data?.me.records) return <p>Loading</p>;
  const { totalCount, edges, pageInfo } = data.me.records;
  return (
    <>
      <h1>{totalCount} recordings</h1>
      <input
        type="file"
        accept=".wav,audio/wav"
        disabled={loading}
        onChange={({ target }) => {
          setProblem("");
          void upload({ variables: { file: target.files[0] } });
        }}
      />
      <p role="alert">{problem}</p>
      {edges.map(({ node }) => (
        <p key={node.id}>
          <a href={node.streamUrl}>{node.title}</a>{" "}
          <button onClick={() => remove({ variables: { id: node.id } })}>Delete</button>
        </p>
      ))}
      {pageInfo.hasNextPage && (
        <button onClick={() => fetchMore({ variables: { after: pageInfo.endCursor } }).catch(onError)}>More</button>
      )}
    </>
  );
}

function textOf(error) {
  if (!CombinedGraphQLErrors.is(error)) return error.message; // the error does not come from the service
  const [{ message, extensions }] = error.errors;
  return [extensions.code, message].join(" ");
}

export const App = ({ client }) => (
  <ApolloProvider client={client}>
    <Library />
  </ApolloProvider>
);
