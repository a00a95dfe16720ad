import { GraphQLDateTime, GraphQLSafeInt } from "graphql-scalars";
import { Field, ID, ObjectType } from "type-graphql";
import { Facts } from "../graphql/field-facts.ts";
import { maxNoteLength, type SharedLink } from "./share-links.ts";

@ObjectType("Link", {
  description:
    "A link of its own to one recording: it opens a private one too, without a token, until it expires or is revoked.",
})
export class LinkType {
  @Field(() => ID, { description: "The id, for `revokeLink`. The link cannot be made from it." })
  id!: string;

  /** Not a field: it stands in the addresses. */
  secret!: string;

  /** Not a field: it stands in `mp3Url`. */
  mp3FileName!: string;

  @Field(() => String, { nullable: true, description: "What its maker wrote down about it; only the owner sees it." })
  @Facts({ maxCharacters: maxNoteLength })
  note!: string | null;

  @Field(() => GraphQLDateTime, { description: "When it was created." })
  createdAt!: Date;

  @Field(() => GraphQLDateTime, {
    nullable: true,
    description: "From then on it answers 410 with the code `GONE`; null: it works until it is revoked.",
  })
  expiresAt!: Date | null;

  @Field(() => GraphQLSafeInt, {
    description:
      "How many downloads have begun. A listening is one, whatever ranges its player asks for, and so is a download that " +
      "was cut off and begun again. Programs that make previews for chats, search engines, prefetching browsers, `HEAD` " +
      "and what was not modified do not count.",
  })
  downloads!: number;
}

/** The link as the API shows it. */
export function toLinkType(link: SharedLink): LinkType {
  return Object.assign(new LinkType(), link);
}

@ObjectType({ description: "A new link." })
export class CreateLinkPayload {
  @Field(() => LinkType, { description: "The new link." })
  link!: LinkType;
}

@ObjectType({ description: "A link that is no more." })
export class RevokeLinkPayload {
  @Field(() => ID, { description: "Its id." })
  revokedId!: string;

  @Field(() => ID, { description: "The id of the recording that it led to." })
  recordId!: string;
}
