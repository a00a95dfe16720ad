import { describe, expect, it } from "@jest/globals";
import { checkPreconditions, ifRangeHolds } from "../src/http/conditional-request.ts";
import { parseHttpDate } from "../src/http/http-date.ts";

const etag = '"5f0c"';
const validators = { etag, lastModified: new Date("2026-11-06T08:49:37.654Z") };
const before = "Fri, 06 Nov 2026 08:49:36 GMT";
const exact = "Fri, 06 Nov 2026 08:49:37 GMT";
const after = "Fri, 06 Nov 2026 08:49:38 GMT";

describe("a single condition", () => {
  it.each([
    ["if-match", etag, "proceed"],
    ["if-match", "*", "proceed"],
    ["if-match", `"a", ${etag}`, "proceed"],
    ["if-match", `"a,b" ,\t, ${etag},`, "proceed"],
    ["if-match", `W/${etag}`, "failed"],
    ["if-match", '"other"', "failed"],
    ["if-match", "5f0c", "failed"],
    ["if-match", `${etag} ${etag}`, "failed"],
    ["if-match", `*, ${etag}`, "failed"],
    ["if-match", "", "failed"],
    ["if-unmodified-since", before, "failed"],
    ["if-unmodified-since", exact, "proceed"],
    ["if-unmodified-since", after, "proceed"],
    ["if-unmodified-since", "2026-11-06", "proceed"],
    ["if-none-match", etag, "not modified"],
    ["if-none-match", `W/${etag}`, "not modified"],
    ["if-none-match", "*", "not modified"],
    ["if-none-match", `"a", W/"b",${etag}`, "not modified"],
    ["if-none-match", '"5F0C"', "proceed"],
    ["if-none-match", '"a, 5f0c"', "proceed"],
    ["if-none-match", `w/${etag}`, "proceed"],
    ["if-none-match", "5f0c", "proceed"],
    ["if-none-match", `${etag}, unquoted`, "proceed"],
    ["if-none-match", "", "proceed"],
    ["if-modified-since", before, "proceed"],
    ["if-modified-since", exact, "not modified"],
    ["if-modified-since", after, "not modified"],
    ["if-modified-since", "tomorrow", "proceed"],
    ["if-modified-since", `${exact}, ${exact}`, "proceed"],
  ])("%s: %s leads to %p", (name, value, outcome) => {
    expect(checkPreconditions({ [name]: value }, validators)).toBe(outcome);
  });

  it("is not needed", () => {
    expect(checkPreconditions({}, validators)).toBe("proceed");
  });
});

describe("the precedence of RFC 9110 section 13.2.2", () => {
  it.each([
    ["If-Match over If-Unmodified-Since", { "if-match": etag, "if-unmodified-since": before }, "proceed"],
    ["If-Match before If-None-Match", { "if-match": '"x"', "if-none-match": etag }, "failed"],
    ["both matches", { "if-match": etag, "if-none-match": etag }, "not modified"],
    ["If-Unmodified-Since before If-None-Match", { "if-unmodified-since": before, "if-none-match": etag }, "failed"],
    ["If-None-Match over If-Modified-Since", { "if-none-match": '"x"', "if-modified-since": after }, "proceed"],
    ["If-None-Match over an older date", { "if-none-match": etag, "if-modified-since": before }, "not modified"],
    ["both dates", { "if-unmodified-since": exact, "if-modified-since": exact }, "not modified"],
  ])("puts %s", (_what, headers, outcome) => {
    expect(checkPreconditions(headers, validators)).toBe(outcome);
  });
});

describe("a list of tags", () => {
  it.each(['"a" ,, "b",', ' "a", "b" ', ',"a"'])("may have empty elements: %s", (list) => {
    expect(checkPreconditions({ "if-match": list }, { ...validators, etag: '"a"' })).toBe("proceed");
  });

  it.each(['"a" "b"', '"a', '"a";"b"', "a"])("counts as empty when it is malformed: %s", (list) => {
    expect(checkPreconditions({ "if-match": list }, { ...validators, etag: '"a"' })).toBe("failed");
  });

  // With a regular expression that backtracks, these would take longer than the test may.
  it.each([",   ".repeat(4000), " ".repeat(16_000), ',"'.repeat(8000)])(
    "is read in one pass, however odd (%#)",
    (start) => {
      expect(checkPreconditions({ "if-none-match": `${start}!` }, validators)).toBe("proceed");
    },
  );
});

describe("If-Range", () => {
  it.each([
    [undefined, true],
    [etag, true],
    [exact, true],
    ["Friday, 06-Nov-26 08:49:37 GMT", true],
    [`W/${etag}`, false],
    ['"other"', false],
    [`${etag}, ${etag}`, false],
    ["*", false],
    [before, false],
    [after, false],
    ["nonsense", false],
    ["", false],
  ])("of %p holds: %p", (field, holds) => {
    expect(ifRangeHolds(field, validators)).toBe(holds);
  });
});

describe("an HTTP-date", () => {
  it.each([
    ["Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37.000Z"],
    ["Sunday, 06-Nov-94 08:49:37 GMT", "1994-11-06T08:49:37.000Z"],
    ["Sun Nov  6 08:49:37 1994", "1994-11-06T08:49:37.000Z"],
    ["Thu Nov 16 08:49:37 1995", "1995-11-16T08:49:37.000Z"],
    ["Thu, 29 Feb 2024 23:59:60 GMT", "2024-03-01T00:00:00.000Z"],
  ])("of the form %s is read", (field, time) => {
    expect(new Date(parseHttpDate(field) ?? 0).toISOString()).toBe(time);
  });

  it.each([
    "",
    "0",
    "2026",
    "1994-11-06T08:49:37Z",
    "Sun, 6 Nov 1994 08:49:37 GMT",
    "Sun, 06 Nov 1994 08:49:37",
    "Sun, 06 Nov 1994 08:49:37 CET",
    "Sun, 06 Nov 1994 24:00:00 GMT",
    "Sun, 31 Nov 1994 08:49:37 GMT",
    "Sun, 00 Nov 1994 08:49:37 GMT",
    "Sun, 06 nov 1994 08:49:37 GMT",
    "Sunday, 06 Nov 1994 08:49:37 GMT",
    " Sun, 06 Nov 1994 08:49:37 GMT",
  ])("is not %p", (field) => {
    expect(parseHttpDate(field)).toBeUndefined();
  });
});
