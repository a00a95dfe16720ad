import type { GraphQLResolveInfo } from "graphql";
import { Arg, Ctx, FieldResolver, ID, Info, Int, Mutation, Resolver, Root } from "type-graphql";
import { ServiceError } from "../errors/errors.ts";
import { Facts } from "../graphql/field-facts.ts";
import type { RequestContext } from "../graphql/request-context.ts";
import { oneAtATime } from "../graphql/one-at-a-time.ts";
import { requireSelf } from "../graphql/require-self.ts";
import { noSuchRecord } from "../record/record-refusals.ts";
import { toUserType, UserType } from "../user/user.type.ts";
import { deleteRecords, maxDeletions } from "./delete-records.ts";
import {
  countRecords,
  defaultPageSize,
  listRecords,
  maxPageSize,
  orderOf,
  requireListArguments,
  type PageRequest,
} from "./list-records.ts";
import {
  DeleteRecordPayload,
  DeleteRecordsPayload,
  RecordConnectionType,
  RecordChangeInput,
  RecordFilterInput,
  RecordOrderInput,
  toRecordConnection,
  UpdateRecordPayload,
  UpdateRecordsPayload,
} from "./record-library.type.ts";
import { maxTitleLength } from "../record/record-title.ts";
import { bulkyProperties } from "../record/record.entity.ts";
import { toRecordType, VisibilityEnum } from "../record/record.type.ts";
import { updateRecord } from "./update-record.ts";
import { maxChanges, requireChanges, updateRecords } from "./update-records.ts";
import type { Visibility } from "../settings/visibility.ts";

/** A user's recordings, and the mutations that change them. */
@Resolver(() => UserType)
export class RecordLibraryResolver {
  @FieldResolver(() => RecordConnectionType, {
    nullable: true,
    description:
      `A page of the user's own recordings: ${defaultPageSize} unless \`first\` or \`last\` says otherwise. ` +
      "Following the cursors visits every recording exactly once, even while others are added or deleted. Null " +
      "only if an error occurred.",
  })
  @Facts<ListArguments>({
    ownerOnly: "READ",
    listLength: longestPage,
    check: (args, { ownerId, isInList }) => {
      if (isInList) throw listInList();
      requireListArguments(ownerId, args, args.filter ?? {}, orderOf(args.orderBy));
    },
  })
  async records(
    @Root() user: UserType,
    @Arg("first", () => Int, {
      nullable: true,
      description: `Number of recordings from the start, at most ${maxPageSize}.`,
    })
    first: number | null,
    @Arg("after", () => String, { nullable: true, description: "Only recordings after this cursor." })
    after: string | null,
    @Arg("last", () => Int, {
      nullable: true,
      description: `Number of recordings from the end, at most ${maxPageSize}.`,
    })
    last: number | null,
    @Arg("before", () => String, { nullable: true, description: "Only recordings before this cursor." })
    before: string | null,
    @Arg("filter", () => RecordFilterInput, { nullable: true, description: "Only recordings that match this filter." })
    filter: RecordFilterInput | null,
    @Arg("orderBy", () => RecordOrderInput, {
      nullable: true,
      description: "Sort order; newest first by default.",
    })
    order: RecordOrderInput | null,
    @Ctx() context: RequestContext,
    @Info() { path }: GraphQLResolveInfo,
  ): Promise<RecordConnectionType> {
    await requireSelf(context, user.id, "READ");
    const ownerId = Number(user.id);
    const range = { first, after, last, before };
    const bulky = bulkyProperties.filter((property) => context.selects(`Recording.${property}`, path));
    return await oneAtATime(context, async () => {
      const page = await listRecords(context.em(), ownerId, range, filter ?? {}, orderOf(order), bulky);
      return toRecordConnection(page, ownerId, filter ?? {});
    });
  }

  @Mutation(() => UpdateRecordPayload, {
    nullable: true,
    description:
      "Changes the title, the visibility or both of one of the caller's recordings. The MP3 does not change; " +
      "its own tag keeps the old title. Fails with NOT_FOUND if the recording does not exist or belongs to " +
      "another user.",
  })
  async updateRecord(
    @Arg("id", () => ID, { description: "The recording's id, a UUID." }) id: string,
    @Arg("title", () => String, {
      nullable: true,
      description: `The new title: 1 to ${maxTitleLength} characters, without control characters. Omit it to keep the title.`,
    })
    title: string | null,
    @Arg("visibility", () => VisibilityEnum, {
      nullable: true,
      description: "Who can open the recording by its `url` from now on. Omit it to keep the visibility.",
    })
    visibility: Visibility | null,
    @Ctx() context: RequestContext,
  ): Promise<UpdateRecordPayload> {
    const { id: ownerId } = await context.caller();
    const record = await updateRecord(context.em(), ownerId, id, { title, visibility });
    return { record: toRecordType(record) };
  }

  @Mutation(() => UpdateRecordsPayload, {
    nullable: true,
    description:
      "Changes several of the caller's recordings at once, all of them or none. Fails with NOT_FOUND, with the first " +
      "`id` in `extensions`, if one does not exist or belongs to another user. Safe to repeat.",
  })
  @Facts<{ changes: readonly RecordChangeInput[] }>({
    listLength: ({ changes }) => Math.min(changes.length, maxChanges),
    check: ({ changes }) => requireChanges(changes),
  })
  async updateRecords(
    @Arg("changes", () => [RecordChangeInput], {
      description: `The changes, at most ${maxChanges}, each of another recording.`,
    })
    changes: RecordChangeInput[],
    @Ctx() context: RequestContext,
  ): Promise<UpdateRecordsPayload> {
    const { id: ownerId } = await context.caller();
    return { records: (await updateRecords(context.em(), ownerId, changes)).map(toRecordType) };
  }

  @Mutation(() => DeleteRecordPayload, {
    nullable: true,
    description:
      "Deletes one of the caller's recordings. Fails with NOT_FOUND if it does not exist or belongs to another " +
      "user.",
  })
  async deleteRecord(
    @Arg("id", () => ID, { description: "The recording's id, a UUID." }) id: string,
    @Ctx() context: RequestContext,
  ): Promise<DeleteRecordPayload> {
    const caller = await context.caller();
    const [deletedId] = await deleteRecords(context.em(), caller.id, [id]);
    if (deletedId === undefined) throw noSuchRecord();
    return { deletedId, user: toUserType(caller) };
  }

  @Mutation(() => DeleteRecordsPayload, {
    nullable: true,
    description:
      "Deletes several of the caller's recordings at once. Safe to repeat: ids that do not exist are ignored.",
  })
  async deleteRecords(
    @Arg("ids", () => [ID], { description: `The recordings' ids, at most ${maxDeletions}.` }) ids: string[],
    @Ctx() context: RequestContext,
  ): Promise<DeleteRecordsPayload> {
    const caller = await context.caller();
    return { deletedIds: await deleteRecords(context.em(), caller.id, ids), user: toUserType(caller) };
  }
}

@Resolver(() => RecordConnectionType)
export class RecordConnectionResolver {
  @FieldResolver(() => Int, {
    nullable: true,
    description: "Number of recordings on all pages that match the filter. Null only if an error occurred.",
  })
  async totalCount(
    @Root() { ownerId, filter, knownCount }: RecordConnectionType,
    @Ctx() context: RequestContext,
  ): Promise<number> {
    return knownCount ?? (await oneAtATime(context, async () => await countRecords(context.em(), ownerId, filter)));
  }
}

interface ListArguments extends PageRequest {
  readonly filter?: RecordFilterInput | null;
  readonly orderBy?: RecordOrderInput | null;
}

/**
 * Maximum number of recordings on a page. If the arguments contradict each other, which is refused, the larger one
 * counts.
 */
function longestPage({ first, last }: ListArguments): number {
  const asked = [first, last].filter((size) => size != null);
  return asked.length === 0 ? defaultPageSize : Math.min(Math.max(0, ...asked), maxPageSize);
}

/** A list of recordings in each element of another list would be a hundred lists, each of the same recordings. */
function listInList(): ServiceError {
  return new ServiceError("BAD_USER_INPUT", "A list of recordings cannot be requested inside another list.");
}
