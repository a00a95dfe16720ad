import "reflect-metadata";
import type { GraphQLSchema } from "graphql";
import { buildSchema } from "type-graphql";
import { RecordConnectionResolver, RecordLibraryResolver } from "./library/record-library.resolver.ts";
import { RecordResolver } from "./record/record.resolver.ts";
import {
  CreateLinkPayloadResolver,
  LinkResolver,
  RevokeLinkPayloadResolver,
  SharingResolver,
} from "./link/sharing.resolver.ts";
import { SharedRecordingResolver } from "./link/shared-recording.resolver.ts";
import { PlayUrlResolver } from "./link/play-url.resolver.ts";
import { UploadResolver } from "./upload/upload.resolver.ts";
import { ResumableUploadResolver, UploadsResolver } from "./upload/resumable-upload.resolver.ts";
import { UploadTicketResolver } from "./upload/upload-ticket.resolver.ts";
import { UsageResolver } from "./upload/usage.resolver.ts";
import { AccountResolver } from "./user/account.resolver.ts";
import { UserResolver } from "./user/user.resolver.ts";
import { ErrorCodeResolver } from "./graphql/error-code.resolver.ts";
import { requireExtents } from "./graphql/answer-extent.ts";
import { resolveListsInTurns } from "./graphql/in-turns.ts";
import { NodeResolver } from "./node.resolver.ts";
import { ServiceResolver } from "./service.resolver.ts";

const resolverClasses = [
  UserResolver,
  AccountResolver,
  UploadResolver,
  UploadTicketResolver,
  ResumableUploadResolver,
  UploadsResolver,
  RecordResolver,
  RecordLibraryResolver,
  RecordConnectionResolver,
  SharingResolver,
  LinkResolver,
  CreateLinkPayloadResolver,
  RevokeLinkPayloadResolver,
  SharedRecordingResolver,
  PlayUrlResolver,
  UsageResolver,
  NodeResolver,
  ServiceResolver,
  ErrorCodeResolver,
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
  // The library gives the types of operations no description.
  schema.getQueryType()!.description =
    "Reads. Unless a field says otherwise, it needs a Bearer token with the scope READ.";
  schema.getMutationType()!.description =
    "Changes. The fields of an operation run one after the other, and each can fail on its own. Unless a field says " +
    "otherwise, it needs a Bearer token with the scope WRITE.";
  requireExtents(schema);
  resolveListsInTurns(schema);
  return schema;
}
