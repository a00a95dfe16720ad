import { lexicographicSortSchema, printSchema, type GraphQLSchema } from "graphql";

/** Prints the schema in the definition language, in a stable order. */
export function printSdl(schema: GraphQLSchema): string {
  return `${printSchema(lexicographicSortSchema(schema))}\n`;
}
