import { GraphQLDateTime, GraphQLURL } from "../graphql/scalars.ts";
import { Arg, Ctx, FieldResolver, Float, ID, Mutation, Resolver, Root } from "type-graphql";
import { batchLoader } from "../graphql/batch-loader.ts";
import { Facts } from "../graphql/field-facts.ts";
import { chargeOf, type WriteAllowances } from "../limits/write-allowance.ts";
import type { RequestContext } from "../graphql/request-context.ts";
import { requireSelf } from "../graphql/require-self.ts";
import { findOwnRecord } from "../record/find-record.ts";
import { RecordType, toRecordType } from "../record/record.type.ts";
import { leveledFacts, leveledLinks, LeveledLinksType, lufsDescription } from "../record/leveled-links.type.ts";
import { nameOfRecord } from "../record/file-name.ts";
import {
  listenUrl,
  maxLinkLength,
  maxMp3LinkLength,
  shareMp3Url,
  shareStreamUrl,
  shareUrl,
} from "../record/record-url.ts";
import { CreateLinkPayload, LinkType, RevokeLinkPayload, toLinkType } from "./share-link.type.ts";
import {
  createShareLink,
  findShareLinks,
  maxLinksPerRecord,
  maxNoteLength,
  revokeShareLink,
  type SharedLink,
} from "./share-links.ts";

/** Share links of recordings. */
@Resolver(() => RecordType)
export class SharingResolver {
  readonly #allowances: WriteAllowances;
  readonly #linksOf: (context: RequestContext, recordId: string) => Promise<readonly SharedLink[] | undefined>;

  constructor(allowances: WriteAllowances) {
    this.#allowances = allowances;
    this.#linksOf = batchLoader(async ({ em }, recordIds: readonly string[]) => await findShareLinks(em(), recordIds));
  }

  @Mutation(() => CreateLinkPayload, {
    nullable: true,
    description:
      "Creates a share link to one of the caller's recordings. It opens the recording even if it is private, " +
      `and can be revoked without affecting other links. A recording has at most ${maxLinksPerRecord} share ` +
      "links.",
  })
  async createLink(
    @Arg("recordId", () => ID, { description: "The recording's id, a UUID." }) recordId: string,
    @Arg("expiresAt", () => GraphQLDateTime, {
      nullable: true,
      description: "When the link expires. Omit it for a link that works until it is revoked.",
    })
    expiresAt: Date | undefined,
    @Arg("note", () => String, {
      nullable: true,
      description: `A private note, such as the recipient's name; at most ${maxNoteLength} characters.`,
    })
    note: string | undefined,
    @Ctx() context: RequestContext,
  ): Promise<CreateLinkPayload> {
    const caller = await context.caller();
    const charge = chargeOf(this.#allowances, caller, context.clientAddress);
    const { record, ...link } = await createShareLink(context.em(), caller.id, { recordId, expiresAt, note }, charge);
    return { link: toLinkType(link, record), recordId: record.id };
  }

  @Mutation(() => RevokeLinkPayload, {
    nullable: true,
    description:
      "Revokes a share link. It answers 404 from then on. `record.links` no longer lists it, and its download " +
      "count is lost.",
  })
  async revokeLink(
    @Arg("id", () => ID, { description: "The link's id." }) id: string,
    @Ctx() context: RequestContext,
  ): Promise<RevokeLinkPayload> {
    const { id: ownerId } = await context.caller();
    return { revokedId: id, recordId: await revokeShareLink(context.em(), ownerId, id) };
  }

  @FieldResolver(() => [LinkType], {
    nullable: true,
    description: "The recording's share links, newest first, including expired ones. Null only if an error occurred.",
  })
  @Facts({ ownerOnly: "READ", listLength: () => maxLinksPerRecord })
  async links(@Root() record: RecordType, @Ctx() context: RequestContext): Promise<LinkType[]> {
    await requireSelf(context, record.owner.id, "READ");
    const links = (await this.#linksOf(context, record.id)) ?? [];
    return links.map((link) => toLinkType(link, record));
  }
}

/** The recording whose links a mutation has changed. */
async function changedRecord(
  { recordId }: { readonly recordId: string },
  context: RequestContext,
): Promise<RecordType | null> {
  const record = await findOwnRecord(context.em(), (await context.caller()).id, recordId);
  return record && toRecordType(record);
}

const changedRecordField = {
  nullable: true,
  description: "The recording, with the changed `links`. Null if it was deleted meanwhile, or an error occurred.",
};

@Resolver(() => CreateLinkPayload)
export class CreateLinkPayloadResolver {
  @FieldResolver(() => RecordType, changedRecordField)
  async record(@Root() payload: CreateLinkPayload, @Ctx() context: RequestContext): Promise<RecordType | null> {
    return await changedRecord(payload, context);
  }
}

@Resolver(() => RevokeLinkPayload)
export class RevokeLinkPayloadResolver {
  @FieldResolver(() => RecordType, changedRecordField)
  async record(@Root() payload: RevokeLinkPayload, @Ctx() context: RequestContext): Promise<RecordType | null> {
    return await changedRecord(payload, context);
  }
}

/** The addresses of a share link. */
@Resolver(() => LinkType)
export class LinkResolver {
  @FieldResolver(() => GraphQLURL, {
    description: "The link. You may append any file name, such as `/take.mp3`, for players that expect one.",
  })
  @Facts({ maxCharacters: maxLinkLength })
  url(@Root() { secret }: LinkType, @Ctx() { origin }: RequestContext): URL {
    return new URL(shareUrl(origin, secret));
  }

  @FieldResolver(() => GraphQLURL, {
    description: "The link for playing in a page or a player, instead of a download.",
  })
  @Facts({ maxCharacters: maxLinkLength })
  streamUrl(@Root() { secret }: LinkType, @Ctx() { origin }: RequestContext): URL {
    return new URL(shareStreamUrl(origin, secret));
  }

  @FieldResolver(() => GraphQLURL, {
    description:
      "Link to a page with a player, for people: send them this one. Opening the page is no download; playing is one.",
  })
  @Facts({ maxCharacters: maxLinkLength })
  listenUrl(@Root() { secret }: LinkType, @Ctx() { origin }: RequestContext): URL {
    return new URL(listenUrl(origin, { secret }));
  }

  @FieldResolver(() => GraphQLURL, {
    description:
      "Like `url`, with the recording's title and `.mp3` at the end, as in `record.mp3Url`. Anyone who sees " +
      "the address sees the title.",
  })
  @Facts({ maxCharacters: maxMp3LinkLength })
  mp3Url(@Root() { secret, record }: LinkType, @Ctx() { origin }: RequestContext): URL {
    return new URL(shareMp3Url(origin, secret, nameOfRecord(record)));
  }

  @FieldResolver(() => LeveledLinksType, {
    nullable: true,
    description: "The same links, which then play at this loudness. Null only if an error occurred.",
  })
  @Facts(leveledFacts)
  atLoudness(
    @Root() { secret, record }: LinkType,
    @Arg("lufs", () => Float, { description: lufsDescription }) lufs: number,
    @Ctx() { origin }: RequestContext,
  ): LeveledLinksType {
    const [url, streamUrl] = [shareUrl(origin, secret), shareStreamUrl(origin, secret)];
    return leveledLinks({ url, streamUrl, mp3Url: shareMp3Url(origin, secret, nameOfRecord(record)) }, lufs);
  }

  @FieldResolver(() => GraphQLURL, { description: "Link to the waveform as JSON, as in `record.waveformUrl`." })
  @Facts({ maxCharacters: maxLinkLength })
  waveformUrl(@Root() { secret }: LinkType, @Ctx() { origin }: RequestContext): URL {
    return new URL(`${shareUrl(origin, secret)}/waveform.json`);
  }
}
