import "reflect-metadata";
import type { GraphQLSchema } from "graphql";
import { buildSchema } from "type-graphql";
import { RecordResolver } from "../record/record.resolver.ts";
import { LinkResolver, SharingResolver } from "../record/sharing.resolver.ts";
import { UsageResolver } from "../record/usage.resolver.ts";
import { UserResolver } from "../user/user.resolver.ts";
import { NodeResolver } from "./node.resolver.ts";

/** The API's schema. Without resolvers it can be printed but not executed. */
export async function createSchema(resolvers: readonly object[] = []): Promise<GraphQLSchema> {
  const instances = new Map(resolvers.map((resolver) => [resolver.constructor, resolver]));
  return await buildSchema({
    resolvers: [UserResolver, RecordResolver, SharingResolver, LinkResolver, UsageResolver, NodeResolver],
    container: { get: (type) => instances.get(type) },
    validate: false,
  });
}
