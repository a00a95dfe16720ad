import { describe, expect, it } from "@jest/globals";
import { uploadCredentials } from "../src/graphql/upload-credentials.ts";

const ann = { userId: "1", token: "secret" };

describe("whom an upload is for", () => {
  it.each([
    ["in the arguments", '{ uploadRecord(userId: 1, token: "secret") { created } }', {}],
    ["in variables", "($u: ID, $t: UUID) { uploadRecord(userId: $u, token: $t) { created } }", { u: "1", t: "secret" }],
    ["in defaults", '($u: ID = "1", $t: UUID = "secret") { uploadRecord(userId: $u, token: $t) { created } }', {}],
    [
      "in variables before defaults",
      '($u: ID = "2", $t: UUID = "secret") { uploadRecord(userId: $u, token: $t) { created } }',
      { u: 1 },
    ],
    [
      "in a field behind one that is skipped",
      '{ a: uploadRecord @skip(if: true) { created } uploadRecord(userId: 1, token: "secret") { created } }',
      {},
    ],
  ])("stands %s", (_where, query, variables) => {
    expect(uploadCredentials({ query: `mutation ${query}`, variables })).toEqual(ann);
  });

  it.each([
    ["without arguments", "{ uploadRecord { created } }", {}],
    [
      "with null instead of a default",
      '($u: ID = "1", $t: UUID = "x") { uploadRecord(userId: $u, token: $t) { created } }',
      { u: null, t: null },
    ],
  ])("stands in the header %s", (_how, query, variables) => {
    expect(uploadCredentials({ query: `mutation ${query}`, variables })).toBe("from the header");
  });

  it.each([
    ["a skipped field", "mutation { uploadRecord @skip(if: true) { created } }"],
    ["a condition", "mutation ($yes: Boolean!) { uploadRecord @include(if: $yes) { created } }"],
    ["a fragment", "mutation { ...f } fragment f on Mutation { uploadRecord { created } }"],
    ["half of the arguments", "mutation { uploadRecord(userId: 1) { created } }"],
    ["no GraphQL", "mutation {"],
  ])("is left to the execution with %s", (_what, query) => {
    expect(uploadCredentials({ query })).toBeUndefined();
  });
});
