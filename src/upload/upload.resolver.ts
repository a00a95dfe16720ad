import { GraphQLUUID } from "graphql-scalars";
import type { FileUpload } from "graphql-upload-minimal";
import { Arg, Ctx, ID, Mutation, Resolver } from "type-graphql";
import type { Quality } from "../audio/mp3/quality.ts";
import type { Caller } from "../caller/caller.ts";
import { ServiceError } from "../errors/errors.ts";
import { Facts } from "../graphql/field-facts.ts";
import type { RequestContext } from "../graphql/request-context.ts";
import { GraphQLUpload } from "../graphql/upload-scalar.ts";
import { maxTitleLength } from "../record/record-title.ts";
import { QualityEnum, toRecordType, VisibilityEnum } from "../record/record.type.ts";
import type { Visibility } from "../settings/visibility.ts";
import type { RecordUploader } from "./upload-record.ts";
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
