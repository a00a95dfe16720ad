import { Arg, Ctx, FieldResolver, Int, Query, Resolver, Root } from "type-graphql";
import { maxWaveformBins } from "../audio/meter/waveform.ts";
import { Facts } from "../graphql/field-facts.ts";
import { oneAtATime } from "../graphql/one-at-a-time.ts";
import type { RequestContext } from "../graphql/request-context.ts";
import { GraphQLNonNegativeFloat, GraphQLURL } from "../graphql/scalars.ts";
import { findOpenedRecord } from "../record/find-record.ts";
import { noSuchRecord } from "../record/record-refusals.ts";
import { chaptersFacts, chaptersOf, peaksFacts, peaksOf } from "../record/record.resolver.ts";
import { ChapterType } from "../record/production.type.ts";
import { toRecordType } from "../record/record.type.ts";
import { parseLink } from "../record/parse-link.ts";
import {
  maxLinkLength,
  recordUrl,
  shareStreamUrl,
  shareUrl,
  streamUrl,
  type LinkTarget,
} from "../record/record-url.ts";
import { openPlainLink, openShareLink, type OpenedLink } from "./open-link.ts";
import { SharedRecordingType, toSharedRecording } from "./shared-recording.type.ts";

/** What a link opens, for apps. */
@Resolver(() => SharedRecordingType)
export class SharedRecordingResolver {
  @Query(() => SharedRecordingType, {
    nullable: true,
    description:
      "The recording that a plain link or a share link opens. Needs no token, unless the link does. Fails as the link " +
      "itself does: with NOT_FOUND if there is no such recording, it is private or the link was revoked, and with GONE if " +
      "the link has expired. It does not count as a download. The host in the link does not matter.",
  })
  @Facts({ answersTo: async () => undefined })
  async shared(
    @Arg("url", () => GraphQLURL, { description: "A link to a recording, in any of its forms." }) url: URL,
    @Ctx() context: RequestContext,
  ): Promise<SharedRecordingType> {
    const target = parseLink(url);
    const record = await oneAtATime(context, async () => {
      const { row } = await open(target, context);
      return await findOpenedRecord(context.em(), row.id);
    });
    if (!record) throw noSuchRecord();
    return toSharedRecording(toRecordType(record), target);
  }

  @FieldResolver(() => GraphQLURL, { description: "The link, to the MP3 as a download." })
  @Facts({ maxCharacters: maxLinkLength })
  url(@Root() { target }: SharedRecordingType, @Ctx() { origin }: RequestContext): URL {
    return new URL("secret" in target ? shareUrl(origin, target.secret) : recordUrl(origin, target));
  }

  @FieldResolver(() => GraphQLURL, { description: "The link for playing in a page or a player." })
  @Facts({ maxCharacters: maxLinkLength })
  streamUrl(@Root() { target }: SharedRecordingType, @Ctx() { origin }: RequestContext): URL {
    return new URL("secret" in target ? shareStreamUrl(origin, target.secret) : streamUrl(origin, target));
  }

  @FieldResolver(() => [GraphQLNonNegativeFloat], {
    nullable: true,
    description: "The waveform, as `Recording.peaks` describes it. Null only if an error occurred.",
  })
  @Facts(peaksFacts)
  async peaks(
    @Root() { recordId }: SharedRecordingType,
    @Arg("count", () => Int, { defaultValue: 512, description: `Number of parts, from 1 to ${maxWaveformBins}.` })
    count: number,
    @Ctx() context: RequestContext,
  ): Promise<number[]> {
    return await peaksOf(context, recordId, count);
  }

  @FieldResolver(() => [ChapterType], {
    nullable: true,
    description: "The chapters in order. Empty if there are none. Null only if an error occurred.",
  })
  @Facts(chaptersFacts)
  async chapters(
    @Root() { recordId }: SharedRecordingType,
    @Ctx() context: RequestContext,
  ): Promise<readonly ChapterType[]> {
    return await chaptersOf(context, recordId);
  }
}

async function open(target: LinkTarget, context: RequestContext): Promise<OpenedLink> {
  if ("secret" in target) return await openShareLink(context.em(), target.secret);
  return await openPlainLink(context.em(), target, async () => await context.caller("READ", "UPLOAD"));
}
