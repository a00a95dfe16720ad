import { GraphQLNonNegativeFloat, GraphQLURL } from "../graphql/scalars.ts";
import { Arg, Ctx, FieldResolver, Float, ID, Int, Query, Resolver, Root } from "type-graphql";
import {
  decodeWaveform,
  leastDetailFrames,
  maxDetailBins,
  maxWaveformBins,
  requirePeakCount,
  waveformPeaks,
} from "../audio/meter/waveform.ts";
import { maxCuePoints } from "../audio/wav/cue-points.ts";
import { batchLoader } from "../graphql/batch-loader.ts";
import { Facts, type FieldFacts } from "../graphql/field-facts.ts";
import type { RequestContext } from "../graphql/request-context.ts";
import { nameOfRecord } from "./file-name.ts";
import { findProductions, findReadableRecord, findWaveforms } from "./find-record.ts";
import { leveledFacts, leveledLinks, LeveledLinksType, lufsDescription } from "./leveled-links.type.ts";
import { ChapterType, ProductionType } from "./production.type.ts";
import { RecordType, toRecordType } from "./record.type.ts";
import {
  listenUrl,
  maxLinkLength,
  maxMp3LinkLength,
  mp3Url,
  recordUrl,
  streamUrl,
  waveformUrl,
  type RecordAddress,
} from "./record-url.ts";

const waveformOf = batchLoader(async ({ em }, recordIds: readonly string[]) => await findWaveforms(em(), recordIds));

const productionOf = batchLoader(
  async ({ em }, recordIds: readonly string[]) => await findProductions(em(), recordIds),
);

/** The facts of a field with the chapters of a recording. */
export const chaptersFacts: FieldFacts = { listLength: () => maxCuePoints };

/** The chapters of a recording that the caller may see; none if it was deleted in the meantime. */
export async function chaptersOf(context: RequestContext, recordId: string): Promise<readonly ChapterType[]> {
  return (await productionOf(context, recordId))?.chapters ?? [];
}

/** The facts of a field with the peaks of a recording. */
export const peaksFacts: FieldFacts<{ count: number }> = {
  listLength: ({ count }) => Math.min(Math.max(count, 0), maxWaveformBins),
  maxCharacters: "0.123".length,
  check: ({ count }) => requirePeakCount(count),
};

/** The peaks of a recording that the caller may see; none if it was deleted in the meantime. */
export async function peaksOf(context: RequestContext, recordId: string, count: number): Promise<number[]> {
  const waveform = await waveformOf(context, recordId);
  return waveform ? waveformPeaks(decodeWaveform(waveform), count) : [];
}

@Resolver(() => RecordType)
export class RecordResolver {
  @Query(() => RecordType, {
    nullable: true,
    description:
      "One of the caller's recordings. Null if no recording has this id or another user owns it. A token that " +
      "has UPLOAD or WRITE but not READ reads only the recordings that it uploaded itself.",
  })
  @Facts({ answersTo: async (_args, context) => await context.caller("READ", "UPLOAD") })
  async record(
    @Arg("id", () => ID, { description: "The recording's id, a UUID." }) id: string,
    @Ctx() context: RequestContext,
  ): Promise<RecordType | null> {
    const record = await findReadableRecord(context.em(), await context.caller("READ", "UPLOAD"), id);
    return record && toRecordType(record);
  }

  @FieldResolver(() => GraphQLURL, {
    description: "Link to the MP3 as a download. It needs no token if the recording is `PUBLIC`.",
  })
  @Facts({ maxCharacters: maxLinkLength })
  url(@Root() record: RecordType, @Ctx() { origin }: RequestContext): URL {
    return new URL(recordUrl(origin, addressOf(record)));
  }

  @FieldResolver(() => GraphQLURL, {
    description: "Link to the same MP3 for playing in a page or a player, instead of a download.",
  })
  @Facts({ maxCharacters: maxLinkLength })
  streamUrl(@Root() record: RecordType, @Ctx() { origin }: RequestContext): URL {
    return new URL(streamUrl(origin, addressOf(record)));
  }

  @FieldResolver(() => GraphQLURL, {
    description:
      "Like `url`, but the address ends in `.mp3`, as some players and feeds require: " +
      "`/record/<id>/<title>.mp3?user=<user>`. The address changes with the title; addresses with an old title " +
      "still work. Add `&inline=1` to play instead of download.",
  })
  @Facts({ maxCharacters: maxMp3LinkLength })
  mp3Url(@Root() record: RecordType, @Ctx() { origin }: RequestContext): URL {
    return new URL(mp3Url(origin, addressOf(record), nameOfRecord(record)));
  }

  @FieldResolver(() => LeveledLinksType, {
    nullable: true,
    description: "The same links, which then play at this loudness. Null only if an error occurred.",
  })
  @Facts(leveledFacts)
  atLoudness(
    @Root() record: RecordType,
    @Arg("lufs", () => Float, { description: lufsDescription }) lufs: number,
    @Ctx() { origin }: RequestContext,
  ): LeveledLinksType {
    const address = addressOf(record);
    const links = {
      url: recordUrl(origin, address),
      streamUrl: streamUrl(origin, address),
      mp3Url: mp3Url(origin, address, nameOfRecord(record)),
    };
    return leveledLinks(links, lufs);
  }

  @FieldResolver(() => GraphQLURL, {
    description:
      "Link to a page with a player, for people. Chats show it with title, length and waveform, and some play it at once. " +
      "It opens only if the recording is `PUBLIC`; for a private one, `createLink` makes a link with a page of its own.",
  })
  @Facts({ maxCharacters: maxLinkLength })
  listenUrl(@Root() record: RecordType, @Ctx() { origin }: RequestContext): URL {
    return new URL(listenUrl(origin, addressOf(record)));
  }

  @FieldResolver(() => GraphQLURL, {
    description:
      "Link to the waveform as JSON, in the data format of audiowaveform, which wavesurfer.js and peaks.js read. It has " +
      `at most ${maxWaveformBins} points. For more, append \`&samplesPerPixel=512\`: each point then covers at ` +
      `most so many samples, if the stored waveform is that detailed. It has at most ${maxDetailBins} points, of at least ` +
      `${leastDetailFrames} samples each.`,
  })
  @Facts({ maxCharacters: maxLinkLength })
  waveformUrl(@Root() record: RecordType, @Ctx() { origin }: RequestContext): URL {
    return new URL(waveformUrl(origin, addressOf(record)));
  }

  @FieldResolver(() => [GraphQLNonNegativeFloat], {
    nullable: true,
    description:
      "The waveform: the largest magnitude in each of `count` equal parts, from 0 to 1 (full scale). Null only " +
      "if an error occurred.",
  })
  @Facts(peaksFacts)
  async peaks(
    @Root() record: RecordType,
    @Arg("count", () => Int, { defaultValue: 512, description: `Number of parts, from 1 to ${maxWaveformBins}.` })
    count: number,
    @Ctx() context: RequestContext,
  ): Promise<number[]> {
    return await peaksOf(context, record.id, count);
  }

  @FieldResolver(() => [ChapterType], {
    nullable: true,
    description:
      "The chapters of the recording in order, from the cue points of the WAV (`cue `, `labl`). Empty if it has none, or if " +
      "it was uploaded before they were kept. Null only if an error occurred.",
  })
  @Facts(chaptersFacts)
  async chapters(@Root() { id, read }: RecordType, @Ctx() context: RequestContext): Promise<readonly ChapterType[]> {
    return read.chapters === undefined ? await chaptersOf(context, id) : (read.chapters ?? []);
  }

  @FieldResolver(() => ProductionType, {
    nullable: true,
    description:
      "Scene, take, timecode, names of tracks and what else a field recorder states. Null if the WAV states nothing of it, or " +
      "if the recording was uploaded before it was kept.",
  })
  async production(@Root() { id, read }: RecordType, @Ctx() context: RequestContext): Promise<ProductionType | null> {
    const stated = read.production === undefined ? await productionOf(context, id) : read;
    return stated?.production ?? null;
  }
}

function addressOf(record: RecordType): RecordAddress {
  return { recordId: record.id, userId: Number(record.owner.id) };
}
