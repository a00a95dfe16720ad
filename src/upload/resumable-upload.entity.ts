import { defineEntity, p } from "@mikro-orm/core";
import { qualityNames } from "../audio/mp3/quality.ts";
import type { TablesOf } from "../database/query-builder.ts";
import type { ErrorCode } from "../errors/errors.ts";
import { AudioRecord } from "../record/record.entity.ts";
import { User } from "../user/user.entity.ts";
import type { TicketTables } from "./upload-ticket.entity.ts";

/** Why an upload failed for good. */
export interface UploadFailure {
  readonly code: ErrorCode;
  readonly message: string;
}

const ResumableUploadSchema = defineEntity({
  name: "ResumableUpload",
  tableName: "resumable_upload",
  properties: {
    /** Also the id that its recording has, or will have. */
    id: p.uuid().primary(),
    owner: () => p.manyToOne(User).deleteRule("cascade").index(),
    /** The recording; null if the upload failed, or if the recording was deleted. */
    record: () => p.manyToOne(AudioRecord).deleteRule("set null").nullable().index(),
    /** The secret in its address. It is not hashed, so that its owner can be told again. */
    secret: p.text().unique(),
    /** The token that started it, without which it cannot go on; null if it was started without one. */
    tokenId: p.uuid().nullable(),
    /** The ticket that started it, whose upload it is; null if it was started without one. */
    ticketId: p.uuid().nullable(),
    title: p.text(),
    quality: p.enum(qualityNames),
    /** The expected SHA-256 of the file, in hexadecimal digits; null if the client stated none. */
    sourceSha256: p.text().nullable(),
    /** Size of the file, in bytes; null until the client states it. */
    lengthBytes: p.bigint("number").nullable(),
    /** Bytes of the file that are kept: up to the checkpoint in what was made of them, then in the pieces. */
    offsetBytes: p.bigint("number").default(0),
    /** Increased by each request that sends bytes. A request that is not the last one can store nothing any more. */
    epoch: p.integer().default(0),
    /** The process that receives bytes; null if there is none. */
    holder: p.uuid().nullable(),
    /** When the holder was last alive. */
    seenAt: p.datetime().nullable(),
    /** Whether another request waits for the holder to let go. */
    isAsked: p.boolean().default(false),
    /** Bytes of the file before the checkpoint; 0 if there is none. */
    checkpointBytes: p.bigint("number").default(0),
    /** The state of the conversion at the checkpoint; see `wav-to-mp3.ts`. */
    state: p.blob().lazy().nullable(),
    /** Number of whole rows of the MP3 before the checkpoint, and the frames after them. */
    rowCount: p.integer().default(0),
    rest: p.blob().lazy().nullable(),
    /** How often in a row the encoder has failed without getting further. */
    failedTries: p.integer().default(0),
    failure: p.json<UploadFailure>().nullable(),
    createdAt: p.datetime().defaultRaw("now()"),
    /** When it is deleted, with a recording that is not ready. It moves on with each request, and while one sends bytes. */
    expiresAt: p.datetime().index(),
  },
});

/** An upload that can be resumed after its connection was lost. */
export class ResumableUpload extends ResumableUploadSchema.class {}
ResumableUploadSchema.setClass(ResumableUpload);

const UploadPieceSchema = defineEntity({
  name: "UploadPiece",
  tableName: "upload_piece",
  properties: {
    upload: () => p.manyToOne(ResumableUpload).deleteRule("cascade").primary(),
    /** Position in the file behind its last byte. */
    endBytes: p.bigint("number").primary(),
    bytes: p.blob().lazy(),
  },
});

/** A piece of a file behind the checkpoint of its upload. It is deleted with the next checkpoint. */
export class UploadPiece extends UploadPieceSchema.class {}
UploadPieceSchema.setClass(UploadPiece);

/** The tables of uploads and recordings, for the query builder. */
export type UploadTables = TicketTables & TablesOf<typeof ResumableUploadSchema | typeof UploadPieceSchema>;
