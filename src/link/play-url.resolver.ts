import { Arg, Ctx, FieldResolver, Int, Resolver, Root } from "type-graphql";
import { batchLoader } from "../graphql/batch-loader.ts";
import { Facts } from "../graphql/field-facts.ts";
import type { RequestContext } from "../graphql/request-context.ts";
import { notTheirOwn } from "../graphql/require-self.ts";
import { GraphQLURL } from "../graphql/scalars.ts";
import { mayRead } from "../record/find-record.ts";
import { RecordType } from "../record/record.type.ts";
import { maxLinkLength, playUrl } from "../record/record-url.ts";
import { findPlayKeys } from "./find-opened-record.ts";
import {
  leastPlaySeconds,
  mostPlaySeconds,
  noToken,
  playExpiry,
  requirePlaySeconds,
  signPlayLink,
} from "./play-link.ts";
import { noSuchRecord } from "../record/record-refusals.ts";

const keyOf = batchLoader(async ({ em }, userIds: readonly number[]) => await findPlayKeys(em(), userIds));

/** Links that play for some hours. */
@Resolver(() => RecordType)
export class PlayUrlResolver {
  @FieldResolver(() => GraphQLURL, {
    nullable: true,
    description:
      "A link that plays the recording without a token, even if it is private, for `<audio>` and other players, which send " +
      "no header. It is meant for the caller's own player: downloads are not counted, and it ends with the token of this " +
      "request. When it has expired it answers 410; ask for another one then. Add `?inline=0` to download instead. Null only if " +
      "an error occurred.",
  })
  @Facts<{ validSeconds: number }>({
    maxCharacters: maxLinkLength,
    check: ({ validSeconds }) => requirePlaySeconds(validSeconds),
  })
  async playUrl(
    @Root() record: RecordType,
    @Arg("validSeconds", () => Int, {
      defaultValue: 21_600,
      description:
        `For how long the link must play, in seconds, from ${leastPlaySeconds} to ${mostPlaySeconds}. It plays up to a ` +
        "quarter longer, so that repeated requests get the same link, which a player can cache.",
    })
    validSeconds: number,
    @Ctx() context: RequestContext,
  ): Promise<URL> {
    requirePlaySeconds(validSeconds);
    const caller = await context.callerAs(record.owner.id);
    if (String(caller.id) !== record.owner.id || !mayRead(caller, record.madeBy)) throw notTheirOwn();
    const key = caller.playKey ?? (await keyOf(context, caller.id));
    if (key === undefined) throw noSuchRecord();
    const expiresAt = playExpiry(validSeconds, caller.expiresAt);
    const terms = { recordId: record.id, userId: caller.id, tokenId: caller.tokenId ?? noToken, expiresAt };
    return new URL(playUrl(context.origin, signPlayLink(key, terms)));
  }
}
