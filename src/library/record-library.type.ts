import { GraphQLDateTime, GraphQLNonNegativeFloat } from "../graphql/scalars.ts";
import { Field, ID, InputType, ObjectType, registerEnumType } from "type-graphql";
import { Facts } from "../graphql/field-facts.ts";
import { maxDeletions } from "./delete-records.ts";
import {
  defaultOrder,
  maxSearchLength,
  type RecordFilter,
  type RecordOrderRequest,
  type RecordPage,
} from "./list-records.ts";
import { maxCursorLength, type RecordOrder, type RecordOrderField } from "./record-cursor.ts";
import type { NamedChange } from "./update-records.ts";
import { RecordType, toRecordType, VisibilityEnum } from "../record/record.type.ts";
import { maxTitleLength } from "../record/record-title.ts";
import { maxSearchWords } from "../record/search-text.ts";
import type { Visibility } from "../settings/visibility.ts";
import { UserType } from "../user/user.type.ts";

/** Sort keys of recordings. */
const RecordOrderFieldEnum: { readonly [F in RecordOrderField]: F } = {
  CREATED_AT: "CREATED_AT",
  TITLE: "TITLE",
  DURATION: "DURATION",
  SIZE: "SIZE",
};
registerEnumType(RecordOrderFieldEnum, {
  name: "RecordOrderField",
  description: "Sort key of recordings. Ties are sorted by id.",
  valuesConfig: {
    CREATED_AT: { description: "When the upload began." },
    TITLE: { description: "The title, ignoring case and accents." },
    DURATION: { description: "The duration." },
    SIZE: { description: "The size of the MP3." },
  },
});

/** Sort direction. */
const OrderDirectionEnum = { ASC: "ASC", DESC: "DESC" } as const;
registerEnumType(OrderDirectionEnum, {
  name: "OrderDirection",
  description: "Sort direction.",
  valuesConfig: {
    ASC: { description: "Ascending: oldest, shortest or smallest first; titles from A to Z." },
    DESC: { description: "Descending: newest, longest or largest first; titles from Z to A." },
  },
});

@InputType({ description: "Sort order of recordings." })
export class RecordOrderInput implements RecordOrderRequest {
  @Field(() => RecordOrderFieldEnum, { defaultValue: defaultOrder.field, description: "Sort key." })
  field!: RecordOrderField;

  @Field(() => OrderDirectionEnum, {
    nullable: true,
    description: "Sort direction. By default, titles are sorted from A to Z, and everything else in descending order.",
  })
  direction?: RecordOrder["direction"] | null;
}

@InputType({ description: "A range of time. Either end may be omitted." })
class DateTimeRangeInput {
  @Field(() => GraphQLDateTime, { nullable: true, description: "Start of the range, inclusive." })
  from?: Date | null;

  @Field(() => GraphQLDateTime, { nullable: true, description: "End of the range, exclusive." })
  before?: Date | null;
}

@InputType({ description: "A range of durations, in seconds. Either end may be omitted." })
class SecondsRangeInput {
  @Field(() => GraphQLNonNegativeFloat, { nullable: true, description: "Minimum, inclusive." })
  min?: number | null;

  @Field(() => GraphQLNonNegativeFloat, { nullable: true, description: "Maximum, inclusive." })
  max?: number | null;
}

@InputType({ description: "A tag, as `Recording.tags` lists it. Both fields must be equal to it, including case." })
class RecordingTagInput {
  @Field(() => String, { description: "Name of the tag in lower case: `title`, `artist`, `date` ..." })
  name!: string;

  @Field(() => String, { description: "Text of the tag." })
  value!: string;
}

@InputType({ description: "Selects recordings. All given conditions must match." })
export class RecordFilterInput implements RecordFilter {
  @Field(() => String, {
    nullable: true,
    description:
      "Words or parts of words. Each must occur in the title, the file name or the tags; case and accents are " +
      `ignored. At most ${maxSearchLength} characters; only the first ${maxSearchWords} words count.`,
  })
  text?: string | null;

  @Field(() => DateTimeRangeInput, { nullable: true, description: "When the upload began." })
  createdAt?: DateTimeRangeInput | null;

  @Field(() => SecondsRangeInput, { nullable: true, description: "The duration." })
  durationSeconds?: SecondsRangeInput | null;

  @Field(() => VisibilityEnum, { nullable: true, description: "Who can open the recording by its `url`." })
  visibility?: Visibility | null;

  @Field(() => RecordingTagInput, { nullable: true, description: "A tag that the recording has." })
  tag?: RecordingTagInput | null;

  @Field(() => String, {
    nullable: true,
    description:
      "SHA-256 of the uploaded file, in hexadecimal digits. Ask for it before an upload to find out whether the file " +
      "was uploaded before.",
  })
  sourceSha256?: string | null;
}

@ObjectType("PageInfo", { description: "Information for fetching the next or previous page of a list." })
class PageInfoType {
  @Field(() => Boolean, { description: "Whether there are entries before this page." })
  hasPreviousPage!: boolean;

  @Field(() => Boolean, { description: "Whether there are entries after this page." })
  hasNextPage!: boolean;

  @Field(() => String, { nullable: true, description: "First cursor of this page. Null if the page is empty." })
  @Facts({ maxCharacters: maxCursorLength })
  startCursor!: string | null;

  @Field(() => String, { nullable: true, description: "Last cursor of this page. Null if the page is empty." })
  @Facts({ maxCharacters: maxCursorLength })
  endCursor!: string | null;
}

@ObjectType("RecordEdge", { description: "A recording with its cursor." })
class RecordEdgeType {
  @Field(() => String, {
    description:
      "The cursor, for `after` and `before`. It is valid only for the same user and sort order, and stays " +
      "valid when recordings are added or deleted.",
  })
  @Facts({ maxCharacters: maxCursorLength })
  cursor!: string;

  @Field(() => RecordType, { description: "The recording." })
  node!: RecordType;
}

@ObjectType("RecordConnection", {
  description: "A page of a user's recordings, as the Relay connection specification describes.",
})
export class RecordConnectionType {
  /** The arguments of `totalCount`, if it is not known yet. */
  ownerId!: number;
  filter!: RecordFilter;
  knownCount!: number | undefined;

  // The length of `records` counts for these two.
  @Field(() => [RecordEdgeType], { description: "The recordings of this page with their cursors." })
  @Facts({ listLength: () => 1 })
  edges!: RecordEdgeType[];

  @Field(() => [RecordType], { description: "The recordings of this page without their cursors." })
  @Facts({ listLength: () => 1 })
  nodes!: RecordType[];

  @Field(() => PageInfoType, { description: "Whether there are more pages, and their cursors." })
  pageInfo!: PageInfoType;
}

/** Converts a page to its API type. */
export function toRecordConnection(page: RecordPage, ownerId: number, filter: RecordFilter): RecordConnectionType {
  const edges = page.edges.map(({ cursor, record }) =>
    Object.assign(new RecordEdgeType(), { cursor, node: toRecordType(record) }),
  );
  return Object.assign(new RecordConnectionType(), {
    ownerId,
    filter,
    knownCount: page.totalCount,
    edges,
    nodes: edges.map(({ node }) => node),
    pageInfo: {
      hasPreviousPage: page.hasPreviousPage,
      hasNextPage: page.hasNextPage,
      startCursor: edges[0]?.cursor ?? null,
      endCursor: edges.at(-1)?.cursor ?? null,
    },
  });
}

@ObjectType({ description: "Result of `updateRecord`." })
export class UpdateRecordPayload {
  @Field(() => RecordType, { description: "The recording after the change." })
  record!: RecordType;
}

@InputType({ description: "A change of one recording. Give a title, a visibility, or both." })
export class RecordChangeInput implements NamedChange {
  @Field(() => ID, { description: "The recording's id, a UUID." })
  id!: string;

  @Field(() => String, {
    nullable: true,
    description: `The new title: 1 to ${maxTitleLength} characters, without control characters. Omit it to keep the title.`,
  })
  title?: string | null;

  @Field(() => VisibilityEnum, {
    nullable: true,
    description: "Who can open the recording by its `url` from now on. Omit it to keep the visibility.",
  })
  visibility?: Visibility | null;
}

@ObjectType({ description: "Result of `updateRecords`." })
export class UpdateRecordsPayload {
  // The length of `updateRecords` counts for it.
  @Field(() => [RecordType], { description: "The recordings after the change, in the order of `changes`." })
  @Facts({ listLength: () => 1 })
  records!: RecordType[];
}

@ObjectType({ description: "Result of `deleteRecord`." })
export class DeleteRecordPayload {
  @Field(() => ID, { description: "Id of the deleted recording." })
  deletedId!: string;

  @Field(() => UserType, { description: "The user who owned the recording." })
  user!: UserType;
}

@ObjectType({ description: "Result of `deleteRecords`." })
export class DeleteRecordsPayload {
  @Field(() => [ID], {
    description: "Ids of the deleted recordings. Ids that do not exist or belong to another user are omitted.",
  })
  @Facts({ listLength: () => maxDeletions })
  deletedIds!: string[];

  @Field(() => UserType, { description: "The user who owned the recordings." })
  user!: UserType;
}
