import { GraphQLNonNegativeFloat, GraphQLURL, GraphQLUUID } from "graphql-scalars";
import type { FileUpload } from "graphql-upload-minimal";
import { Arg, Ctx, FieldResolver, ID, Int, Mutation, Query, Resolver, Root } from "type-graphql";
import { decodeWaveform, maxWaveformBins, requirePeakCount, waveformPeaks } from "../audio/waveform.ts";
import type { Quality } from "../audio/wav-to-mp3.ts";
import { ServiceError } from "../errors.ts";
import { batchLoader } from "../graphql/batch-loader.ts";
import { Facts } from "../graphql/field-facts.ts";
import type { RequestContext } from "../request-context.ts";
import type { Caller } from "../user/authenticate-user.ts";
import { mp3FileName } from "./file-name.ts";
import { findReadableRecord, findWaveforms } from "./find-record.ts";
import { maxTitleLength } from "./record-title.ts";
import { QualityEnum, RecordType, toRecordType, UploadRecordPayload, VisibilityEnum } from "./record.type.ts";
import {
  maxLinkLength,
  maxMp3LinkLength,
  mp3Url,
  recordUrl,
  streamUrl,
  waveformUrl,
  type RecordAddress,
} from "./record-url.ts";
import type { RecordUploader } from "./upload-record.ts";
import { GraphQLUpload } from "./upload.type.ts";
import type { Visibility } from "./visibility.ts";

const waveformOf = batchLoader(async ({ em }, recordIds: readonly string[]) => await findWaveforms(em(), recordIds));

@Resolver(() => RecordType)
export class RecordResolver {
  readonly #uploader: RecordUploader;

  constructor(uploader: RecordUploader) {
    this.#uploader = uploader;
  }

  @Mutation(() => UploadRecordPayload, {
    nullable: true,
    description:
      "Takes a WAV file, stores it as MP3 and answers with the link. Send it by the GraphQL multipart request " +
      "specification. The caller is the user of `userId` and `token`, or else of the Bearer token. Without a Bearer " +
      "token the request needs the header `apollo-require-preflight: true`. Needs the scope UPLOAD, which WRITE includes; " +
      "a token that is revoked before the file is stored is refused then, and nothing is stored.",
  })
  @Facts<UploadCredentials>({
    answersTo: async ({ userId, token }, context) => await ownerOf(context, userId, token),
  })
  async uploadRecord(
    @Arg("file", () => GraphQLUpload, { description: "The WAV file." }) file: Promise<FileUpload>,
    @Arg("userId", () => ID, { nullable: true, description: "The user's id; only together with `token`." })
    userId: string | undefined,
    @Arg("token", () => GraphQLUUID, { nullable: true, description: "The user's token; only together with `userId`." })
    token: string | undefined,
    @Arg("title", () => String, {
      nullable: true,
      description:
        `Title of the recording, cut to ${maxTitleLength} characters and freed from control characters; if that leaves ` +
        "nothing, from the WAV's tags, else the file name without its ending.",
    })
    title: string | undefined,
    @Arg("quality", () => QualityEnum, {
      nullable: true,
      description: "The MP3's bit rate; the default is the operator's.",
    })
    quality: Quality | undefined,
    @Arg("visibility", () => VisibilityEnum, {
      nullable: true,
      description: "Who may read it by its plain link; the default is the operator's.",
    })
    visibility: Visibility | undefined,
    @Arg("idempotencyKey", () => GraphQLUUID, {
      nullable: true,
      description:
        "Makes the upload safe to retry: made up by the client for each file and sent again with each retry. The same " +
        "user and key give the first record again, without converting the file; if the first upload still runs, after " +
        "it. Another file is a `CONFLICT`, as far as its name, its `sourceSha256` or, in a request of up to 16 MiB, " +
        "its bytes tell.",
    })
    idempotencyKey: string | undefined,
    @Arg("sourceSha256", () => String, {
      nullable: true,
      description:
        "The file's SHA-256 in hexadecimal digits. A file that arrives with another one is refused, and an idempotency " +
        "key that belongs to another one is a `CONFLICT`.",
    })
    sourceSha256: string | undefined,
    @Ctx() context: RequestContext,
  ): Promise<UploadRecordPayload> {
    const owner = await ownerOf(context, userId, token);
    await context.admitUpload(owner);
    const options = { title, quality, visibility, idempotencyKey, sourceSha256 };
    const { record, created } = await this.#uploader.upload(owner, file, options, context);
    return { record: toRecordType(record), created };
  }

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

/** Who uploads, if the arguments say so. */
interface UploadCredentials {
  readonly userId: string | undefined;
  readonly token: string | undefined;
}

/** The user of the arguments if they are given, else of the Bearer token. */
async function ownerOf(
  context: RequestContext,
  userId: string | undefined,
  token: string | undefined,
): Promise<Caller> {
  if (userId != null && token != null) return await context.authenticate(userId, token);
  if (userId == null && token == null) return await context.caller("UPLOAD");
  throw new ServiceError("BAD_USER_INPUT", "Give both userId and token, or neither and an Authorization header.", {
    argument: userId == null ? "userId" : "token",
  });
}

function addressOf(record: RecordType): RecordAddress {
  return { recordId: record.id, userId: Number(record.owner.id) };
}
