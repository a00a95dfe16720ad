import { GraphQLUUID } from "../graphql/scalars.ts";
import type { FileUpload } from "graphql-upload-minimal";
import { Arg, Ctx, ID, Mutation, Resolver } from "type-graphql";
import type { Quality } from "../audio/mp3/quality.ts";
import type { Caller } from "../caller/caller.ts";
import { ServiceError } from "../errors/errors.ts";
import { Facts } from "../graphql/field-facts.ts";
import { isSmall, type RequestContext } from "../graphql/request-context.ts";
import { GraphQLUpload } from "../graphql/upload-scalar.ts";
import { maxTitleLength } from "../record/record-title.ts";
import { QualityEnum, toRecordType, VisibilityEnum } from "../record/record.type.ts";
import type { Visibility } from "../settings/visibility.ts";
import type { RecordUploader } from "./upload-record.ts";
import { hasTicket, withTicket } from "./upload-tickets.ts";
import { UploadRecordPayload } from "./upload.type.ts";

@Resolver()
export class UploadResolver {
  readonly #uploader: RecordUploader;

  constructor(uploader: RecordUploader) {
    this.#uploader = uploader;
  }

  @Mutation(() => UploadRecordPayload, {
    nullable: true,
    description:
      "Uploads a WAV file, converts it to MP3 and returns the recording with its link. Send the file as the " +
      "GraphQL multipart request specification describes. The owner is the user of `userId` and `token` if " +
      "given, otherwise the user of the Bearer token; with `ticket`, the user who created the ticket. Without a Bearer token, the request needs the header " +
      "`apollo-require-preflight: true`. Needs the scope UPLOAD, which WRITE includes. If the token is revoked " +
      "before the file is stored, the upload fails and nothing is stored.",
  })
  @Facts<UploadCredentials>({
    takesFile: true,
    answersTo: async (credentials, context) => await ownerOf(context, credentials),
  })
  async uploadRecord(
    @Arg("file", () => GraphQLUpload, { description: "The WAV file." }) file: Promise<FileUpload>,
    @Arg("userId", () => ID, { nullable: true, description: "The owner's id. Give it only together with `token`." })
    userId: string | undefined,
    @Arg("token", () => GraphQLUUID, {
      nullable: true,
      description: "The owner's token. Give it only together with `userId`.",
    })
    token: string | undefined,
    @Arg("title", () => String, {
      nullable: true,
      description:
        `Title of the recording. Control characters are removed, and it is truncated to ${maxTitleLength} ` +
        "characters. If nothing is left, the title comes from the WAV's tags, or else from the file name without " +
        "its extension.",
    })
    title: string | undefined,
    @Arg("quality", () => QualityEnum, {
      nullable: true,
      description: "Bit rate of the MP3. The operator sets the default.",
    })
    quality: Quality | undefined,
    @Arg("visibility", () => VisibilityEnum, {
      nullable: true,
      description: "Who can open the recording by its `url`. The operator sets the default.",
    })
    visibility: Visibility | undefined,
    @Arg("idempotencyKey", () => GraphQLUUID, {
      nullable: true,
      description:
        "Makes the upload safe to retry: a UUID that the client generates once for each file and sends with " +
        "every attempt. If the user has already uploaded a file with this key, the mutation returns that " +
        "recording with `created: false` and does not convert the file again. If that upload is still running, " +
        "the mutation waits for it. A different file with the same key fails with `CONFLICT`. Files are compared " +
        "by name, by `sourceSha256` if given, and otherwise by their bytes if the request has at most 16 MiB.",
    })
    idempotencyKey: string | undefined,
    @Arg("sourceSha256", () => String, {
      nullable: true,
      description:
        "SHA-256 of the file, in hexadecimal digits. The upload fails if the file that arrives has a different " +
        "one. It fails with `CONFLICT` if the idempotency key belongs to a file with a different one.",
    })
    sourceSha256: string | undefined,
    @Arg("ticket", () => GraphQLUUID, {
      nullable: true,
      description:
        "A ticket from `createUploadTicket`, instead of a token. What the ticket sets, the upload cannot change. It is valid " +
        "for one recording; a retry with the same ticket and file returns that recording with `created: false`. Give it " +
        "without `userId`, `token` and `idempotencyKey`; a Bearer token beside it does not count.",
    })
    ticket: string | undefined,
    @Ctx() context: RequestContext,
  ): Promise<UploadRecordPayload> {
    const owner = await ownerOf(context, { userId, token, ticket });
    if (!isSmall(context)) await context.admitUpload(owner);
    const given = { title, quality, visibility, idempotencyKey, sourceSha256 };
    const options = hasTicket(owner) ? withTicket(given, owner.ticket) : given;
    try {
      const { record, created } = await this.#uploader.upload(owner, file, options, context);
      return { record: toRecordType(record), created };
    } finally {
      await context.roomForAnswer(true); // the fields after this one run also if it fails
    }
  }
}

/** The credentials in the arguments, if any. */
interface UploadCredentials {
  readonly userId: string | undefined;
  readonly token: string | undefined;
  readonly ticket: string | undefined;
}

/** The owner of the ticket, or the user of the arguments if given, else the user of the Bearer token. */
async function ownerOf(context: RequestContext, { userId, token, ticket }: UploadCredentials): Promise<Caller> {
  if (ticket != null) {
    if (userId == null && token == null) return await context.authenticateTicket(ticket);
    const message = "Give either ticket, or userId and token.";
    throw new ServiceError("BAD_USER_INPUT", message, { argument: "ticket" });
  }
  if (userId != null && token != null) return await context.authenticate(userId, token);
  if (userId == null && token == null) return await context.caller("UPLOAD");
  throw new ServiceError("BAD_USER_INPUT", "Give both userId and token, or neither and an Authorization header.", {
    argument: userId == null ? "userId" : "token",
  });
}
