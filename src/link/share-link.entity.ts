import { defineEntity, p } from "@mikro-orm/core";
import type { TablesOf } from "../database/query-builder.ts";
import { AudioRecord, type RecordTables } from "../record/record.entity.ts";

const ShareLinkSchema = defineEntity({
  name: "ShareLink",
  tableName: "share_link",
  properties: {
    id: p.uuid().primary().defaultRaw("gen_random_uuid()"),
    record: () => p.manyToOne(AudioRecord).deleteRule("cascade").index(),
    /** The secret in the link. `docs/decisions` says why it is not hashed. */
    secret: p.text().unique(),
    note: p.text().nullable(),
    createdAt: p.datetime().defaultRaw("now()"),
    /** When the link expires and answers 410; null if never. */
    expiresAt: p.datetime().nullable(),
    downloads: p.bigint("number").default(0),
  },
});

/** A share link: it opens one recording, even a private one, and can be revoked individually. */
export class ShareLink extends ShareLinkSchema.class {}
ShareLinkSchema.setClass(ShareLink);

/** The tables of share links and recordings, for the query builder. */
export type LinkTables = RecordTables & TablesOf<typeof ShareLinkSchema>;
