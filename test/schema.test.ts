import { describe, expect, it } from "@jest/globals";
import {
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isIntrospectionType,
  isObjectType,
  type GraphQLEnumType,
} from "graphql";
import { readFile } from "node:fs/promises";
import { errorCodes } from "../src/errors.ts";
import { errorPageFile, printSdl, schemaFile } from "../src/graphql/emit-schema.ts";
import { printErrorPage } from "../src/graphql/error-page.ts";
import { createSchema } from "../src/graphql/schema.ts";

describe("the schema", () => {
  it("is the committed one; run npm run schema after a change", async () => {
    expect(printSdl(await createSchema())).toBe(await readFile(schemaFile, "utf8"));
  });

  it("goes with a page of error codes that is current, too", async () => {
    expect(printErrorPage()).toBe(await readFile(errorPageFile, "utf8"));
  });

  it("has every error code of the service", async () => {
    const codes = (await createSchema()).getType("ErrorCode") as GraphQLEnumType;
    expect(codes.getValues().map(({ name }) => name)).toEqual(expect.arrayContaining(Object.keys(errorCodes)));
  });

  it("is not made without the instance of a resolver", async () => {
    await expect(createSchema([])).rejects.toThrow("no instance of UserResolver");
  });

  it("describes every type, field, argument and value", async () => {
    const schema = await createSchema();
    const silent: string[] = [];
    for (const type of Object.values(schema.getTypeMap())) {
      if (isIntrospectionType(type)) continue;
      const isRoot = [schema.getQueryType(), schema.getMutationType()].includes(type as never);
      if (!type.description && !isRoot) silent.push(type.name);
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
});
