import * as graphqlEslint from "@graphql-eslint/eslint-plugin";
import { join } from "node:path";

const schema = join(import.meta.dirname, "../../schema/schema.graphql");

/** Types without an id: each is a value of the object that has it, and a cache keeps it there. */
const values = [
  "ErrorDescription",
  "LeveledLinks",
  "Loudness",
  "PageInfo",
  "ProductionMetadata",
  "ProductionTrack",
  "RecordingChapter",
  "RecordingTag",
  "RecordSource",
  "Service", // there is one
  "SharedRecording", // says nothing about the recording that a link opens but this; its id leads nowhere
  "UploadFailure",
  "Usage",
  "UsageLimits",
];

/** The rules that the plugin recommends, and those of Relay, over the schema. */
export default {
  files: ["**/*.graphql"],
  languageOptions: { parser: graphqlEslint.parser, parserOptions: { graphQLConfig: { schema } } },
  plugins: { "@graphql-eslint": graphqlEslint },
  rules: {
    ...graphqlEslint.configs["flat/schema-recommended"].rules,
    ...graphqlEslint.configs["flat/schema-relay"].rules,
    // Payloads, connections and edges belong to one response. A new type without an id has to be named here.
    "@graphql-eslint/strict-id-in-types": [
      "error",
      { exceptions: { types: values, suffixes: ["Payload", "Connection", "Edge"] } },
    ],
    // Not every list is a connection: `tags`, `links`, `nodes(ids:)` and the like are short and limited, and are read whole.
    "@graphql-eslint/relay-edge-types": [
      "error",
      { withEdgeSuffix: true, shouldImplementNode: true, listTypeCanWrapOnlyEdgeType: false },
    ],
  },
};
