import "reflect-metadata";
import { GraphQLSchema } from "graphql";
import { buildSchema } from "type-graphql";
import { RecordConnectionResolver, RecordLibraryResolver } from "./library/record-library.resolver.ts";
import { RecordResolver } from "./record/record.resolver.ts";
import { LinkResolver, SharingResolver } from "./link/sharing.resolver.ts";
import { UploadResolver } from "./upload/upload.resolver.ts";
import { UsageResolver } from "./upload/usage.resolver.ts";
import { AccountResolver } from "./user/account.resolver.ts";
import { UserResolver } from "./user/user.resolver.ts";
import { errorCodeEnum } from "./graphql/error-code.type.ts";
import { NodeResolver } from "./node.resolver.ts";

const resolverClasses = [
  UserResolver,
  AccountResolver,
  UploadResolver,
  RecordResolver,
  RecordLibraryResolver,
  RecordConnectionResolver,
  SharingResolver,
  LinkResolver,
  UsageResolver,
  NodeResolver,
] as const;

/**
 * Creates the schema of the API. Without resolvers it can be printed but not executed.
 * @throws {Error} if resolvers are given and one is missing, which would otherwise be noticed only when it is used
 */
export async function createSchema(resolvers?: readonly object[]): Promise<GraphQLSchema> {
  const instances = new Map(resolvers?.map((resolver) => [resolver.constructor, resolver]));
  const missing = resolvers && resolverClasses.find((resolverClass) => !instances.has(resolverClass));
  if (missing) throw new Error(`The schema has no instance of ${missing.name}.`);
  const schema = await buildSchema({
    resolvers: resolverClasses,
    container: { get: (type) => instances.get(type) },
    validate: false,
  });
  // No field has this type, so it must be added to the schema.
  const { types, ...config } = schema.toConfig();
  return new GraphQLSchema({ ...config, types: [...types, errorCodeEnum] });
}
