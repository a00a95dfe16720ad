import { GraphQLDateTime, GraphQLSafeInt } from "../graphql/scalars.ts";
import { Field, ID, ObjectType } from "type-graphql";
import { Facts } from "../graphql/field-facts.ts";
import type { RecordNames } from "../record/file-name.ts";
import { maxNoteLength, type SharedLink } from "./share-links.ts";

@ObjectType("ShareLink", {
  description:
    "A share link. It opens one recording, even a private one, without a token, until it expires or is revoked.",
})
export class LinkType {
  @Field(() => ID, { description: "The id, for `revokeLink`. The link's address cannot be derived from it." })
  id!: string;

  /** Not an API field: it is part of the addresses. */
  secret!: string;

  /** Not an API field: its name is part of `mp3Url`. */
  record!: RecordNames;

  @Field(() => String, { nullable: true, description: "A private note. Only the owner sees it." })
  @Facts({ maxCharacters: maxNoteLength })
  note!: string | null;

  @Field(() => GraphQLDateTime, { description: "When the link was created." })
  createdAt!: Date;

  @Field(() => GraphQLDateTime, {
    nullable: true,
    description:
      "When the link expires. From then on it answers 410 with the code `GONE`. Null if it works until it is " +
      "revoked.",
  })
  expiresAt!: Date | null;

  @Field(() => GraphQLSafeInt, {
    description:
      "Number of downloads that have begun. Playing counts as one download, however many ranges the player " +
      "requests. A download that is interrupted and resumed also counts as one. Link previews, search engines, " +
      "prefetching browsers, `HEAD` requests and responses of 304 (not modified) do not count.",
  })
  downloads!: number;
}

/** Converts a share link to its API type. */
export function toLinkType(link: SharedLink, record: RecordNames): LinkType {
  return Object.assign(new LinkType(), link, { record });
}

@ObjectType({ description: "Result of `createLink`." })
export class CreateLinkPayload {
  /** Not an API field: the id of the recording in `record`. */
  recordId!: string;

  @Field(() => LinkType, { description: "The new link." })
  link!: LinkType;
}

@ObjectType({ description: "Result of `revokeLink`." })
export class RevokeLinkPayload {
  @Field(() => ID, { description: "Id of the revoked link." })
  revokedId!: string;

  @Field(() => ID, { description: "Id of the recording that the link opened." })
  recordId!: string;
}
