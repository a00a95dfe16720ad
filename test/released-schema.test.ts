import { describe, expect, it } from "@jest/globals";
import { BreakingChangeType, buildSchema, findBreakingChanges } from "graphql";
import { readFile } from "node:fs/promises";
import { schemaFile } from "../src/emit-schema.ts";

const released = await readFile(new URL("released.graphql", schemaFile), "utf8");

describe("the released schema", () => {
  it("is still compatible with its clients", async () => {
    expect(breakingChanges(await readFile(schemaFile, "utf8"))).toEqual([]);
  });

  it.each([
    ["a field that is gone", /^  streamUrl: /m, "  playUrl: ", BreakingChangeType.FIELD_REMOVED],
    ["a field that may become null", /^  streamUrl: URL!$/m, "  streamUrl: URL", BreakingChangeType.FIELD_CHANGED_KIND],
    ["a value that is gone", /^  TITLE$/m, "  NAME", BreakingChangeType.VALUE_REMOVED_FROM_ENUM],
    [
      "a new argument that is required",
      /count: Int! = 512$/m,
      "count: Int! = 512, from: Int!",
      BreakingChangeType.REQUIRED_ARG_ADDED,
    ],
  ])("notices %s", (_change, right, wrong, type) => {
    expect(released).toMatch(right);
    expect(breakingChanges(released.replace(right, wrong))).toMatchObject([{ type }]);
  });
});

/** The changes in a schema (SDL) that break clients of the released one. */
function breakingChanges(sdl: string) {
  return findBreakingChanges(buildSchema(released), buildSchema(sdl));
}
