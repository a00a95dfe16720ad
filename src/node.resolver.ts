import { Arg, Ctx, ID, Query, Resolver } from "type-graphql";
import { tokenScopes, type Caller } from "./caller/caller.ts";
import { ServiceError } from "./errors/errors.ts";
import { findReadableRecords } from "./record/find-record.ts";
import { toRecordType } from "./record/record.type.ts";
import type { RequestContext } from "./graphql/request-context.ts";
import { toUserType } from "./user/user.type.ts";
import { Facts, type FieldFacts } from "./graphql/field-facts.ts";
import { Node } from "./graphql/node.type.ts";

/** Maximum number of ids of `nodes`: as many as a page of recordings has. */
const maxNodes = 100;

const anyScope: FieldFacts["answersTo"] = async (_args, context) => await context.caller(...tokenScopes);

@Resolver()
export class NodeResolver {
  @Query(() => Node, {
    nullable: true,
    description:
      "The caller (by number) or one of the caller's recordings (by UUID), otherwise null. Recordings need the " +
      "same scopes as `record`.",
  })
  @Facts({ answersTo: anyScope })
  async node(
    @Arg("id", () => ID, { description: "The id of a user or a recording." }) id: string,
    @Ctx() context: RequestContext,
  ): Promise<Node | null> {
    const [node] = await findNodes(context, [id]);
    return node ?? null;
  }

  @Query(() => [Node], {
    nullable: "itemsAndList",
    description:
      "Several nodes at once, in the order of their ids, with null for each that `node` would answer with null. The list " +
      "itself is null only if an error occurred.",
  })
  @Facts<{ ids: readonly string[] }>({
    answersTo: anyScope,
    listLength: ({ ids }) => Math.min(ids.length, maxNodes),
    check: ({ ids }) => requireFewNodes(ids),
  })
  async nodes(
    @Arg("ids", () => [ID], { description: `Ids of the user and of recordings, at most ${maxNodes}.` }) ids: string[],
    @Ctx() context: RequestContext,
  ): Promise<(Node | null)[]> {
    // Again, because a query runs unchecked if the caller may not read another of its fields.
    requireFewNodes(ids);
    return await findNodes(context, ids);
  }
}

/** @throws {ServiceError} BAD_USER_INPUT */
function requireFewNodes(ids: readonly string[]): void {
  if (ids.length <= maxNodes) return;
  const message = `One request can ask for at most ${maxNodes} nodes.`;
  throw new ServiceError("BAD_USER_INPUT", message, { argument: "ids", max: maxNodes });
}

async function findNodes(context: RequestContext, ids: readonly string[]): Promise<(Node | null)[]> {
  const caller = await context.caller(...tokenScopes);
  const others = ids.filter((id) => !isCaller(id, caller));
  const records = others.length === 0 ? undefined : await findReadableRecords(context.em(), caller, others);
  return ids.map((id) => {
    if (isCaller(id, caller)) return toUserType(caller);
    const record = records?.get(id);
    return record ? toRecordType(record) : null;
  });
}

function isCaller(id: string, caller: Caller): boolean {
  return id === String(caller.id);
}
