// What an app with Relay asks for: pages, refetching, and mutations that update the store by themselves.
import { graphql } from "react-relay";

export const library = graphql`
  query LibraryQuery($count: Int!, $after: String, $filter: RecordFilterInput) {
    me {
      id
      ...Library_user @arguments(count: $count, after: $after, filter: $filter)
    }
  }
`;

export const user = graphql`
  fragment Library_user on User
  @refetchable(queryName: "LibraryPageQuery")
  @argumentDefinitions(
    count: { type: "Int!" }
    after: { type: "String" }
    filter: { type: "RecordFilterInput" }
    orderBy: { type: "RecordOrderInput" }
  ) {
    usage {
      bytes
      limits {
        bytes
      }
    }
    records(first: $count, after: $after, filter: $filter, orderBy: $orderBy)
      @connection(key: "Library_records", filters: ["filter", "orderBy"]) {
      totalCount
      edges {
        node {
          id
          ...Library_recording
        }
      }
    }
  }
`;

export const recording = graphql`
  fragment Library_recording on Recording @refetchable(queryName: "LibraryRecordingQuery") {
    title
    durationSeconds
    visibility
    streamUrl
    peaks(count: 100)
    links {
      id
      url
      downloads
    }
  }
`;

export const upload = graphql`
  mutation LibraryUploadMutation($file: Upload!, $key: UUID!, $connections: [ID!]!) {
    uploadRecord(file: $file, idempotencyKey: $key) {
      created
      record @prependNode(connections: $connections, edgeTypeName: "RecordEdge") {
        id
        ...Library_recording
      }
    }
  }
`;

export const remove = graphql`
  mutation LibraryDeleteMutation($id: ID!, $connections: [ID!]!) {
    deleteRecord(id: $id) {
      deletedId @deleteEdge(connections: $connections) @deleteRecord
      user {
        usage {
          bytes
        }
      }
    }
  }
`;

export const removeSeveral = graphql`
  mutation LibraryDeleteSeveralMutation($ids: [ID!]!, $connections: [ID!]!) {
    deleteRecords(ids: $ids) {
      deletedIds @deleteEdge(connections: $connections)
    }
  }
`;

export const share = graphql`
  mutation LibraryShareMutation($id: ID!) {
    createLink(recordId: $id) {
      link {
        url
      }
      record {
        ...Library_recording
      }
    }
  }
`;

export const unshare = graphql`
  mutation LibraryUnshareMutation($id: ID!) {
    revokeLink(id: $id) {
      revokedId @deleteRecord
    }
  }
`;

export const several = graphql`
  query LibraryNodesQuery($ids: [ID!]!) {
    nodes(ids: $ids) {
      ...Library_recording @alias
    }
  }
`;
