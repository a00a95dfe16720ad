import type { Quality } from "../audio/mp3/quality.ts";
import type { Caller } from "../caller/caller.ts";
import type { RequestContext } from "../graphql/request-context.ts";
import { cleanText } from "../input/plain-text.ts";
import { chargeOf, type WriteAllowances } from "../limits/write-allowance.ts";
import { maxFileNameLength } from "../record/file-name.ts";
import { maxTitleLength } from "../record/record-title.ts";
import { newRecordId } from "../record/record-id.ts";
import { checkedSha256 } from "../record/source-sha256.ts";
import type { Config } from "../settings/config.ts";
import type { Visibility } from "../settings/visibility.ts";
import { startUpload, type ShownUpload } from "./resumable-uploads.ts";
import { requireLength } from "./resumable-uploader.ts";
import { hasTicket, withTicket } from "./upload-tickets.ts";

/** What a client states about an upload; null or undefined for what it leaves open. */
export interface StatedUpload {
  readonly fileName: string;
  readonly sizeBytes: number | null | undefined;
  readonly title: string | null | undefined;
  readonly quality: Quality | null | undefined;
  readonly visibility: Visibility | null | undefined;
  readonly idempotencyKey: string | null | undefined;
  readonly sourceSha256: string | null | undefined;
}

/** What {@link beginResumable} needs. */
export interface ResumableOptions {
  readonly allowances: WriteAllowances;
  readonly config: Pick<Config, "maxUploadBytes" | "quality" | "visibility" | "quota" | "resumableUploadSeconds">;
}

/**
 * Starts an upload, or finds the one with the same idempotency key.
 * @throws {ServiceError} as an upload in one request does before its file is read
 */
export async function beginResumable(
  stated: StatedUpload,
  owner: Caller,
  context: RequestContext,
  { allowances, config }: ResumableOptions,
): Promise<{ readonly upload: ShownUpload; readonly created: boolean }> {
  const given = hasTicket(owner) ? withTicket(stated, owner.ticket) : stated;
  const { sizeBytes, sourceSha256 } = given;
  const { maxBytes = config.maxUploadBytes } = hasTicket(owner) ? owner.ticket.terms : {};
  if (sizeBytes != null) requireLength(sizeBytes, Math.min(maxBytes, config.maxUploadBytes));
  const request = {
    title: cleanText(given.title ?? "", maxTitleLength),
    quality: given.quality ?? config.quality,
    sourceSha256: sourceSha256 == null ? undefined : checkedSha256(sourceSha256, "sourceSha256"),
    lengthBytes: sizeBytes ?? undefined,
  };
  const upload = {
    id: newRecordId(),
    ownerId: owner.id,
    fileName: cleanText(given.fileName, maxFileNameLength),
    visibility: given.visibility ?? config.visibility,
    idempotencyKey: given.idempotencyKey ?? undefined,
    // Its rows are a part of what it resumes from. `move-records` can move them when it is finished.
    store: "postgres" as const,
  };
  await context.admitUpload(owner);
  const charge = chargeOf(allowances, owner, context.clientAddress);
  const terms = { quota: config.quota, charge, keptSeconds: config.resumableUploadSeconds };
  return await startUpload(context.em(), upload, owner, request, terms);
}
