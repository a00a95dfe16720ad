import { execute, getIntrospectionQuery, parse, validate, type GraphQLSchema } from "graphql";

/**
 * Introspects the schema once. A new process compiles what it runs, and parts of the schema are built when they are
 * first used: without this, the first large introspection held the event loop for 43 ms of CPU instead of 33.
 */
export async function warmUp(schema: GraphQLSchema): Promise<void> {
  const document = parse(getIntrospectionQuery({ specifiedByUrl: true, inputValueDeprecation: true }));
  validate(schema, document);
  await execute({ schema, document });
}
