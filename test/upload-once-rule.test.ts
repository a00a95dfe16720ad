import { describe, expect, it } from "@jest/globals";
import { buildSchema, parse, specifiedRules, validate } from "graphql";
import { uploadOnceRule } from "../src/graphql/upload-once-rule.ts";

const schema = buildSchema(`
  scalar Upload
  type Query { x: String }
  type Album { add(file: Upload): String  album: Album }
  type Mutation { upload(file: Upload, title: String): String  uploadAll(files: [Upload]): String  album: Album }
`);

function errorsOf(document: string): string[] {
  return validate(schema, parse(document), [uploadOnceRule]).map(({ message }) => message);
}

const usedTwice = ['The upload variable "$f" can be used only once, by one field.'];

describe("an upload variable", () => {
  it.each([
    "mutation ($f: Upload!) { upload(file: $f) }",
    "mutation ($f: Upload!, $t: String) { upload(file: $f, title: $t) album { add }  b: upload(title: $t) }",
    "mutation ($f: Upload, $g: Upload) { a: upload(file: $f)  b: upload(file: $g) }",
    "mutation ($f: [Upload!]!) { uploadAll(files: $f) }",
    "mutation ($f: Upload!) { ...A } fragment A on Mutation { upload(file: $f) }",
    "mutation A($f: Upload!) { upload(file: $f) } mutation B($f: Upload!) { upload(file: $f) }",
    "mutation ($t: String = null) { upload(title: $t) b: upload(title: $t) }",
    "{ x }",
  ])("may be used once: %s", (document) => {
    expect(errorsOf(document)).toEqual([]);
    expect(
      validate(
        schema,
        parse(document),
        specifiedRules.filter(({ name }) => name !== "LoneAnonymousOperationRule"),
      ),
    ).toEqual([]);
  });

  it.each([
    "mutation ($f: Upload!) { a: upload(file: $f)  b: upload(file: $f) }",
    "mutation ($f: Upload!) { upload(file: $f)  upload(file: $f) }",
    "mutation ($f: Upload!) { upload(file: $f)  album { add(file: $f) } }",
    "mutation ($f: Upload!) { uploadAll(files: [$f, $f]) }",
    "mutation ($f: [Upload]) { a: uploadAll(files: $f)  b: uploadAll(files: $f) }",
    "mutation ($f: Upload!) { a: upload(file: $f)  ... on Mutation { b: upload(file: $f) } }",
    "mutation ($f: Upload!) { a: upload(file: $f)  ...B } fragment B on Mutation { b: upload(file: $f) }",
    "mutation ($f: Upload!) { album { ...A album { ...A } } } fragment A on Album { add(file: $f) }",
    `mutation ($f: Upload!) { album { ...A } } fragment A on Album { ...C album { ...B } }
     fragment B on Album { ...C } fragment C on Album { add(file: $f) }`,
  ])("is refused when used twice: %s", (document) => {
    expect(errorsOf(document)).toEqual(usedTwice);
  });

  it("is refused with a default", () => {
    expect(errorsOf("mutation ($f: Upload = null) { upload(file: $f) }")).toEqual([
      'The upload variable "$f" cannot have a default.',
    ]);
  });

  it("is counted in linear time in fragments that spread each other and multiply", () => {
    expect(errorsOf("mutation ($f: Upload) { ...A } fragment A on Mutation { upload(file: $f) ...A }")).toEqual([]);
    const doubling = Array.from({ length: 60 }, (_, i) => {
      return `fragment F${i} on Album { a: album { ...F${i + 1} } b: album { ...F${i + 1} } }`;
    });
    const document = `mutation ($f: Upload) { album { ...F0 } } ${doubling.join(" ")} fragment F60 on Album { add(file: $f) }`;
    expect(errorsOf(document)).toEqual(usedTwice);
  });
});
