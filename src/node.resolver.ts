import { Arg, Ctx, ID, Query, Resolver } from "type-graphql";
import { tokenScopes } from "./caller/caller.ts";
import { findReadableRecord } from "./record/find-record.ts";
import { toRecordType } from "./record/record.type.ts";
import type { RequestContext } from "./graphql/request-context.ts";
import { toUserType } from "./user/user.type.ts";
import { Facts } from "./graphql/field-facts.ts";
import { Node } from "./graphql/node.type.ts";

@Resolver()
export class NodeResolver {
  @Query(() => Node, {
    nullable: true,
    description:
      "The caller (by number) or one of the caller's recordings (by UUID), otherwise null. Recordings need the " +
      "same scopes as `record`.",
  })
  @Facts({ answersTo: async (_args, context) => await context.caller(...tokenScopes) })
  async node(
    @Arg("id", () => ID, { description: "The id of a user or a recording." }) id: string,
    @Ctx() context: RequestContext,
  ): Promise<Node | null> {
    const caller = await context.caller(...tokenScopes);
    if (id === String(caller.id)) return toUserType(caller);
    const record = await findReadableRecord(context.em(), caller, id);
    return record && toRecordType(record);
  }
}
