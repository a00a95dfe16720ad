import { defineEntity, p } from "@mikro-orm/core";
import { qualityNames } from "../audio/mp3/quality.ts";
import type { TablesOf } from "../database/query-builder.ts";
import type { RecordTables } from "../record/record.entity.ts";
import { visibilities } from "../settings/visibility.ts";
import { AccessToken, User } from "../user/user.entity.ts";

const UploadTicketSchema = defineEntity({
  name: "UploadTicket",
  tableName: "upload_ticket",
  properties: {
    /** Also the idempotency key of the upload, so that a retry gets its recording. */
    id: p.uuid().primary().defaultRaw("gen_random_uuid()"),
    owner: () => p.manyToOne(User).deleteRule("cascade").index(),
    /** The token that created it and with which it is revoked; null if it was created without one. */
    maker: () => p.manyToOne(AccessToken).deleteRule("cascade").nullable().index(),
    /** SHA-256 of the secret, which has 122 random bits. */
    sha256: p.blob().unique(),
    /** What the ticket sets for the upload; null if the upload may choose. */
    title: p.text().nullable(),
    quality: p.enum(qualityNames).nullable(),
    visibility: p.enum(visibilities).nullable(),
    /** Maximum size of the file; null for that of the service. */
    maxBytes: p.bigint("number").nullable(),
    createdAt: p.datetime().defaultRaw("now()"),
    expiresAt: p.datetime(),
    /** When a recording was stored with it; null if it can still be used. */
    usedAt: p.datetime().nullable(),
  },
});

/** A secret that allows one upload into the library of its owner. Only its hash is stored. */
export class UploadTicket extends UploadTicketSchema.class {}
UploadTicketSchema.setClass(UploadTicket);

/** The tables of tickets, recordings and users, for the query builder. */
export type TicketTables = RecordTables & TablesOf<typeof UploadTicketSchema>;
