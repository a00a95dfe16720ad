import { Arg, Ctx, FieldResolver, ID, Mutation, Query, Resolver, Root } from "type-graphql";
import { validate as isUuid } from "uuid";
import type { Quality } from "../audio/mp3/quality.ts";
import { hasScope, type Caller } from "../caller/caller.ts";
import { Facts, type FieldFacts } from "../graphql/field-facts.ts";
import type { RequestContext } from "../graphql/request-context.ts";
import { requireSelf } from "../graphql/require-self.ts";
import { GraphQLSafeInt, GraphQLUUID } from "../graphql/scalars.ts";
import { findOwnRecord, mayRead } from "../record/find-record.ts";
import { maxTitleLength } from "../record/record-title.ts";
import { QualityEnum, RecordType, toRecordType, VisibilityEnum } from "../record/record.type.ts";
import type { Visibility } from "../settings/visibility.ts";
import { toUserType, UserType } from "../user/user.type.ts";
import {
  CancelUploadPayload,
  maxUploadUrlLength,
  ResumableUploadType,
  StartUploadPayload,
  toUploadType,
  uploadPath,
} from "./resumable-upload.type.ts";
import {
  cancelUpload,
  findOpenUploads,
  findOwnUpload,
  maxOpenUploads,
  mayGoOnWith,
  noSuchUpload,
} from "./resumable-uploads.ts";
import { beginResumable, type ResumableOptions } from "./begin-resumable.ts";

const uploading: FieldFacts = { answersTo: async (_args, context) => await context.caller("UPLOAD") };
const starting: FieldFacts<{ readonly ticket: string | null | undefined }> = {
  answersTo: async ({ ticket }, context) => await starterOf(context, ticket),
};
const asking: FieldFacts = { answersTo: async (_args, context) => await context.caller("READ", "UPLOAD") };

@Resolver(() => ResumableUploadType)
export class ResumableUploadResolver {
  readonly #options: ResumableOptions;

  constructor(options: ResumableOptions) {
    this.#options = options;
  }

  @Mutation(() => StartUploadPayload, {
    nullable: true,
    description:
      "Starts a resumable upload. If its connection is lost, it continues at the last byte that arrived, at any replica. " +
      "Send the WAV file to `upload.url` with the tus protocol, version 1.0: docs/resumable.md shows how. The file is " +
      "converted while it arrives. An upload is kept until its `expiresAt`: for a day after its last request, unless the " +
      "operator chose another time, and not longer than the token or ticket that started it. " +
      `A user has at most ${maxOpenUploads} open ones. Needs the scope UPLOAD.`,
  })
  @Facts(starting)
  async startUpload(
    @Arg("fileName", () => String, { description: "Name of the file." }) fileName: string,
    @Arg("sizeBytes", () => GraphQLSafeInt, {
      nullable: true,
      description:
        "Size of the file, in bytes. If omitted, the last request states it. So a take can be sent while it is recorded.",
    })
    sizeBytes: number | null,
    @Arg("title", () => String, {
      nullable: true,
      description: `Title of the recording, as in \`uploadRecord\`; at most ${maxTitleLength} characters of it are kept.`,
    })
    title: string | null,
    @Arg("quality", () => QualityEnum, {
      nullable: true,
      description: "Bit rate of the MP3. The operator sets the default.",
    })
    quality: Quality | null,
    @Arg("visibility", () => VisibilityEnum, {
      nullable: true,
      description: "Who can open the recording by its `url`. The operator sets the default.",
    })
    visibility: Visibility | null,
    @Arg("idempotencyKey", () => GraphQLUUID, {
      nullable: true,
      description:
        "A UUID that the client generates once for each file. With the same key, the mutation returns the same " +
        "upload again, with `created: false` and its offset.",
    })
    idempotencyKey: string | null,
    @Arg("sourceSha256", () => String, {
      nullable: true,
      description:
        "SHA-256 of the file, in hexadecimal digits. The upload fails at its end if the file has another one.",
    })
    sourceSha256: string | null,
    @Arg("ticket", () => GraphQLUUID, {
      nullable: true,
      description:
        "A ticket from `createUploadTicket`, instead of a token. What the ticket sets, the upload cannot change. It is valid " +
        "for one recording; the same ticket gives the same upload again. Give it without `idempotencyKey`; a Bearer token " +
        "beside it does not count.",
    })
    ticket: string | null,
    @Ctx() context: RequestContext,
  ): Promise<StartUploadPayload> {
    const owner = await starterOf(context, ticket);
    const given = { fileName, sizeBytes, title, quality, visibility, idempotencyKey, sourceSha256 };
    const { upload, created } = await beginResumable(given, owner, context, this.#options);
    return { upload: toUploadType(upload), created, user: ticket == null ? toUserType(owner) : null };
  }

  @Mutation(() => CancelUploadPayload, {
    nullable: true,
    description:
      "Cancels an upload and deletes what has arrived. Fails with NOT_FOUND if no upload of the caller has this id, and " +
      "with CONFLICT if its recording is ready. Needs the scope UPLOAD. With UPLOAD alone, a token can cancel only the " +
      "uploads that it started.",
  })
  @Facts(uploading)
  async cancelUpload(
    @Arg("id", () => ID, { description: "The upload's id." }) id: string,
    @Ctx() context: RequestContext,
  ): Promise<CancelUploadPayload> {
    const caller = await context.caller("UPLOAD");
    const upload = isUuid(id) ? await findOwnUpload(context.em(), caller.id, id) : undefined;
    if (!upload || !mayGoOnWith(caller, upload)) throw noSuchUpload();
    await cancelUpload(context.em(), caller.id, id);
    return { cancelledId: id.toLowerCase(), user: toUserType(caller) };
  }

  @Query(() => ResumableUploadType, {
    nullable: true,
    description:
      "An upload of the caller, otherwise null. Needs the scope READ, or UPLOAD for what the same token has started.",
  })
  @Facts(asking)
  async upload(
    @Arg("id", () => ID, { description: "The upload's id." }) id: string,
    @Ctx() context: RequestContext,
  ): Promise<ResumableUploadType | null> {
    const caller = await context.caller("READ", "UPLOAD");
    const upload = isUuid(id) ? await findOwnUpload(context.em(), caller.id, id) : undefined;
    return upload && (hasScope(caller, "READ") || mayGoOnWith(caller, upload)) ? toUploadType(upload) : null;
  }

  @FieldResolver(() => String, {
    nullable: true,
    description:
      "Where the file is sent. Whoever knows it can send bytes: keep it secret. Null unless the token has the scope WRITE, " +
      "or has UPLOAD and started this upload.",
  })
  @Facts({ maxCharacters: maxUploadUrlLength })
  async url(
    @Root() { secret, ownerId, tokenId }: ResumableUploadType,
    @Ctx() context: RequestContext,
  ): Promise<string | null> {
    if (!mayGoOnWith(await context.callerAs(String(ownerId)), { tokenId })) return null;
    return `${context.origin}${uploadPath}/${secret}`;
  }

  @FieldResolver(() => RecordType, {
    nullable: true,
    description: "The recording, with its link. Null until `state` is READY, or if the token may not read it.",
  })
  async recording(
    @Root() { id, ownerId, state }: ResumableUploadType,
    @Ctx() context: RequestContext,
  ): Promise<RecordType | null> {
    if (state !== "READY") return null;
    const record = await findOwnRecord(context.em(), ownerId, id);
    const caller = await context.callerAs(String(ownerId));
    return record && mayRead(caller, record.madeBy) ? toRecordType(record) : null;
  }
}

/** The owner of the ticket if given, else the user of the Bearer token. */
async function starterOf(context: RequestContext, ticket: string | null | undefined): Promise<Caller> {
  return ticket == null ? await context.caller("UPLOAD") : await context.authenticateTicket(ticket);
}

@Resolver(() => UserType)
export class UploadsResolver {
  @FieldResolver(() => [ResumableUploadType], {
    nullable: true,
    description: "The user's own uploads that can be resumed, newest first. Null only if an error occurred.",
  })
  @Facts({ ownerOnly: "READ", listLength: () => maxOpenUploads })
  async uploads(@Root() user: UserType, @Ctx() context: RequestContext): Promise<ResumableUploadType[]> {
    await requireSelf(context, user.id, "READ");
    return (await findOpenUploads(context.em(), Number(user.id))).slice(0, maxOpenUploads).map(toUploadType);
  }
}
