import { describe, expect, it } from "@jest/globals";
import {
  buildSchema,
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isIntrospectionType,
  isNonNullType,
  isObjectType,
  isScalarType,
  isSpecifiedScalarType,
  type GraphQLEnumType,
  type GraphQLField,
  type GraphQLObjectType,
  type GraphQLSchema,
} from "graphql";
import { readFile } from "node:fs/promises";
import { errorCodes } from "../src/errors/errors.ts";
import { errorPageFile, schemaFile } from "../src/emit-schema.ts";
import { requireExtents } from "../src/graphql/answer-extent.ts";
import { printSdl } from "../src/graphql/print-sdl.ts";
import { printErrorPage } from "../src/graphql/error-page.ts";
import { factsOf } from "../src/graphql/field-facts.ts";
import { createSchema } from "../src/schema.ts";

describe("the schema", () => {
  it("is the committed one; run npm run schema after a change", async () => {
    expect(printSdl(await createSchema())).toBe(await readFile(schemaFile, "utf8"));
  });

  it("has a page of error codes that is current, too", async () => {
    expect(printErrorPage()).toBe(await readFile(errorPageFile, "utf8"));
  });

  it("has every error code of the service", async () => {
    const codes = (await createSchema()).getType("ErrorCode") as GraphQLEnumType;
    expect(codes.getValues().map(({ name }) => name)).toEqual(expect.arrayContaining(Object.keys(errorCodes)));
  });

  it("cannot be created if the instance of a resolver is missing", async () => {
    await expect(createSchema([])).rejects.toThrow("no instance of UserResolver");
  });

  it("describes every type, field, argument and value", async () => {
    const schema = await createSchema();
    const silent: string[] = [];
    for (const type of Object.values(schema.getTypeMap())) {
      if (isIntrospectionType(type)) continue;
      if (!type.description) silent.push(type.name);
      if (isEnumType(type))
        silent.push(
          ...type
            .getValues()
            .filter((value) => !value.description)
            .map((value) => value.name),
        );
      if (isObjectType(type) || isInterfaceType(type) || isInputObjectType(type)) {
        for (const field of Object.values(type.getFields())) {
          if (!field.description) silent.push(`${type.name}.${field.name}`);
          for (const arg of "args" in field ? field.args : []) {
            if (!arg.description) silent.push(`${type.name}.${field.name}(${arg.name})`);
          }
        }
      }
    }
    expect(silent).toEqual([]);
  });

  it("names the specification of every scalar of its own", async () => {
    const scalars = Object.values((await createSchema()).getTypeMap()).filter(isScalarType);
    const unspecified = scalars.filter((type) => !isSpecifiedScalarType(type) && !type.specifiedByURL);
    expect(unspecified.map(({ name }) => name)).toEqual([]);
  });

  it.each([
    ["a list without a length", "type Query { a: [Int!]! }", "Query.a"],
    ["a text without a length", "type Query { a: B } type B { c: String }", "B.c"],
    ["a scalar without a width", "type Query { a: Money } scalar Money", "Query.a"],
  ])("is refused with %s", async (_what, sdl, field) => {
    expect(() => requireExtents(buildSchema(sdl))).toThrow(`Nothing limits the size of ${field}`);
  });

  it("makes every mutation, and every field that can fail, nullable", async () => {
    const refusable = fieldsOf(await createSchema()).filter(
      ({ name, field }) => name.startsWith("Mutation.") || field.args.length > 0 || factsOf(field).ownerOnly,
    );
    expect(refusable.length).toBeGreaterThan(15);
    expect(refusable.filter(({ field }) => isNonNullType(field.type)).map(({ name }) => name)).toEqual([]);
  });
});

function fieldsOf(schema: GraphQLSchema): { name: string; field: GraphQLField<unknown, unknown> }[] {
  return Object.values(schema.getTypeMap())
    .filter((type) => isObjectType(type) && !isIntrospectionType(type))
    .flatMap((type) =>
      Object.values((type as GraphQLObjectType).getFields()).map((field) => ({
        name: `${type.name}.${field.name}`,
        field,
      })),
    );
}
