import { GraphQLNonNegativeFloat, GraphQLURL } from "graphql-scalars";
import { Arg, Ctx, FieldResolver, ID, Int, Query, Resolver, Root } from "type-graphql";
import { decodeWaveform, maxWaveformBins, requirePeakCount, waveformPeaks } from "../audio/meter/waveform.ts";
import { batchLoader } from "../graphql/batch-loader.ts";
import { Facts } from "../graphql/field-facts.ts";
import type { RequestContext } from "../graphql/request-context.ts";
import { mp3FileName } from "./file-name.ts";
import { findReadableRecord, findWaveforms } from "./find-record.ts";
import { RecordType, toRecordType } from "./record.type.ts";
import {
  maxLinkLength,
  maxMp3LinkLength,
  mp3Url,
  recordUrl,
  streamUrl,
  waveformUrl,
  type RecordAddress,
} from "./record-url.ts";

const waveformOf = batchLoader(async ({ em }, recordIds: readonly string[]) => await findWaveforms(em(), recordIds));

@Resolver(() => RecordType)
export class RecordResolver {
  @Query(() => RecordType, {
    nullable: true,
    description:
      "One of the caller's recordings; null when there is none with this id or it is somebody else's. A token without " +
      "READ, but with UPLOAD or WRITE, reads those that it uploaded itself.",
  })
  @Facts({ answersTo: async (_args, context) => await context.caller("READ", "UPLOAD") })
  async record(
    @Arg("id", () => ID, { description: "The record's id, a UUID." }) id: string,
    @Ctx() context: RequestContext,
  ): Promise<RecordType | null> {
    const record = await findReadableRecord(context.em(), await context.caller("READ", "UPLOAD"), id);
    return record && toRecordType(record);
  }

  @FieldResolver(() => GraphQLURL, {
    description: "The link to the MP3; browsers download it. While the recording is `PUBLIC` it needs no token.",
  })
  @Facts({ maxCharacters: maxLinkLength })
  url(@Root() record: RecordType, @Ctx() { origin }: RequestContext): URL {
    return new URL(recordUrl(origin, addressOf(record)));
  }

  @FieldResolver(() => GraphQLURL, {
    description: "The same MP3, to play in a page or a player instead of downloading.",
  })
  @Facts({ maxCharacters: maxLinkLength })
  streamUrl(@Root() record: RecordType, @Ctx() { origin }: RequestContext): URL {
    return new URL(streamUrl(origin, addressOf(record)));
  }

  @FieldResolver(() => GraphQLURL, {
    description:
      "The same as `url` in an address that ends as a file does, for players and feeds that want that: " +
      "`/record/<id>/<title>.mp3?user=<user>`. With another title it is another address; the old one goes on working. " +
      "Add `&inline=1` to play instead of downloading.",
  })
  @Facts({ maxCharacters: maxMp3LinkLength })
  mp3Url(@Root() record: RecordType, @Ctx() { origin }: RequestContext): URL {
    return new URL(mp3Url(origin, addressOf(record), mp3FileName(record.title, record.fileName)));
  }

  @FieldResolver(() => GraphQLURL, {
    description: "The waveform as JSON in audiowaveform's data format, which wavesurfer.js and peaks.js read.",
  })
  @Facts({ maxCharacters: maxLinkLength })
  waveformUrl(@Root() record: RecordType, @Ctx() { origin }: RequestContext): URL {
    return new URL(waveformUrl(origin, addressOf(record)));
  }

  @FieldResolver(() => [GraphQLNonNegativeFloat], {
    nullable: true,
    description:
      "The waveform: the largest magnitude in each of `count` equal parts, from 0 to 1 with full scale at 1. " +
      "Null only together with an error.",
  })
  @Facts<{ count: number }>({
    listLength: ({ count }) => Math.min(Math.max(count, 0), maxWaveformBins),
    maxCharacters: "0.123".length,
    check: ({ count }) => requirePeakCount(count),
  })
  async peaks(
    @Root() record: RecordType,
    @Arg("count", () => Int, { defaultValue: 512, description: `How many parts, from 1 to ${maxWaveformBins}.` })
    count: number,
    @Ctx() context: RequestContext,
  ): Promise<number[]> {
    const waveform = await waveformOf(context, record.id);
    return waveform ? waveformPeaks(decodeWaveform(waveform), count) : [];
  }
}

function addressOf(record: RecordType): RecordAddress {
  return { recordId: record.id, userId: Number(record.owner.id) };
}
