import { GraphQLDateTime, GraphQLNonNegativeFloat } from "graphql-scalars";
import { Field, ID, InputType, ObjectType, registerEnumType } from "type-graphql";
import { Facts } from "../graphql/field-facts.ts";
import { maxDeletions } from "./delete-records.ts";
import { defaultOrder, maxSearchLength, type RecordFilter, type RecordPage } from "./list-records.ts";
import { maxCursorLength, type RecordOrder, type RecordOrderField } from "./record-cursor.ts";
import { RecordType, toRecordType } from "../record/record.type.ts";
import { maxSearchWords } from "../record/search-text.ts";

/** By what recordings can be sorted. */
export const RecordOrderFieldEnum: { readonly [F in RecordOrderField]: F } = {
  CREATED_AT: "CREATED_AT",
  TITLE: "TITLE",
  DURATION: "DURATION",
  SIZE: "SIZE",
};
registerEnumType(RecordOrderFieldEnum, {
  name: "RecordOrderField",
  description: "By what recordings are sorted; those that are equal in it are sorted by their ids.",
  valuesConfig: {
    CREATED_AT: { description: "When the upload began." },
    TITLE: { description: "The title, whatever its case and accents." },
    DURATION: { description: "How long it plays." },
    SIZE: { description: "Size of the MP3." },
  },
});

/** Which end of a list comes first. */
export const OrderDirectionEnum = { ASC: "ASC", DESC: "DESC" } as const;
registerEnumType(OrderDirectionEnum, {
  name: "OrderDirection",
  description: "Which end comes first.",
  valuesConfig: {
    ASC: { description: "The oldest, shortest or smallest first; titles from A to Z." },
    DESC: { description: "The newest, longest or largest first; titles from Z to A." },
  },
});

@InputType({ description: "In which order recordings are listed." })
export class RecordOrderInput implements RecordOrder {
  @Field(() => RecordOrderFieldEnum, { defaultValue: defaultOrder.field, description: "By what they are sorted." })
  field!: RecordOrderField;

  @Field(() => OrderDirectionEnum, { defaultValue: defaultOrder.direction, description: "Which end comes first." })
  direction!: RecordOrder["direction"];
}

@InputType({ description: "A range of time." })
export class DateTimeRangeInput {
  @Field(() => GraphQLDateTime, { nullable: true, description: "The first moment that belongs to it." })
  from?: Date | null;

  @Field(() => GraphQLDateTime, { nullable: true, description: "The first moment that no longer belongs to it." })
  before?: Date | null;
}

@InputType({ description: "A range of lengths, in seconds; both ends belong to it." })
export class SecondsRangeInput {
  @Field(() => GraphQLNonNegativeFloat, { nullable: true, description: "The least." })
  min?: number | null;

  @Field(() => GraphQLNonNegativeFloat, { nullable: true, description: "The most." })
  max?: number | null;
}

@InputType({ description: "Which recordings are meant: those to which everything that is given applies." })
export class RecordFilterInput implements RecordFilter {
  @Field(() => String, {
    nullable: true,
    description:
      "Words, or parts of words, that all stand in the title, the file name or the tags, whatever their case and " +
      `accents. At most ${maxSearchLength} characters, of which the first ${maxSearchWords} words count.`,
  })
  text?: string | null;

  @Field(() => DateTimeRangeInput, { nullable: true, description: "When their upload began." })
  createdAt?: DateTimeRangeInput | null;

  @Field(() => SecondsRangeInput, { nullable: true, description: "How long they play." })
  durationSeconds?: SecondsRangeInput | null;
}

@ObjectType("PageInfo", { description: "What a client needs to ask for the next part of a list." })
export class PageInfoType {
  @Field(() => Boolean, { description: "Whether something stands before this part." })
  hasPreviousPage!: boolean;

  @Field(() => Boolean, { description: "Whether something follows this part." })
  hasNextPage!: boolean;

  @Field(() => String, { nullable: true, description: "The first cursor of this part; null when it is empty." })
  @Facts({ maxCharacters: maxCursorLength })
  startCursor!: string | null;

  @Field(() => String, { nullable: true, description: "The last cursor of this part; null when it is empty." })
  @Facts({ maxCharacters: maxCursorLength })
  endCursor!: string | null;
}

@ObjectType("RecordEdge", { description: "A recording and its place in a list." })
export class RecordEdgeType {
  @Field(() => String, {
    description:
      "Its place, for `after` and `before`; good for the same user and order only. It stays good when recordings are " +
      "added or deleted.",
  })
  @Facts({ maxCharacters: maxCursorLength })
  cursor!: string;

  @Field(() => RecordType, { description: "The recording." })
  node!: RecordType;
}

@ObjectType("RecordConnection", {
  description: "A part of a user's recordings, by the Relay connection specification.",
})
export class RecordConnectionType {
  /** What `totalCount` counts, unless it is known. */
  ownerId!: number;
  filter!: RecordFilter;
  knownCount!: number | undefined;

  // `records` around it counts for these two.
  @Field(() => [RecordEdgeType], { description: "The recordings of this part with their cursors." })
  @Facts({ listLength: () => 1 })
  edges!: RecordEdgeType[];

  @Field(() => [RecordType], { description: "The recordings of this part without their cursors." })
  @Facts({ listLength: () => 1 })
  nodes!: RecordType[];

  @Field(() => PageInfoType, { description: "Whether there is more, and where." })
  pageInfo!: PageInfoType;
}

/** A page as the API shows it. */
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

@ObjectType({ description: "A recording after its change." })
export class UpdateRecordPayload {
  @Field(() => RecordType, { description: "The recording." })
  record!: RecordType;
}

@ObjectType({ description: "A recording that is no longer there." })
export class DeleteRecordPayload {
  @Field(() => ID, { description: "Its id." })
  deletedId!: string;
}

@ObjectType({ description: "Recordings that are no longer there." })
export class DeleteRecordsPayload {
  @Field(() => [ID], { description: "Their ids. Ids that were no recordings of the caller's are left out." })
  @Facts({ listLength: () => maxDeletions })
  deletedIds!: string[];
}
