import { defineEntity, p } from "@mikro-orm/core";
import type { TablesOf } from "../database/query-builder.ts";
import { AudioRecord, type RecordTables } from "../record/record.entity.ts";

const ShareLinkSchema = defineEntity({
  name: "ShareLink",
  tableName: "share_link",
  properties: {
    id: p.uuid().primary().defaultRaw("gen_random_uuid()"),
    record: () => p.manyToOne(AudioRecord).deleteRule("cascade").index(),
    /** What stands in the link; `docs/decisions` says why it is not hashed. */
    secret: p.text().unique(),
    note: p.text().nullable(),
    createdAt: p.datetime().defaultRaw("now()"),
    /** From then on the link answers 410; null: never. */
    expiresAt: p.datetime().nullable(),
    downloads: p.bigint("number").default(0),
  },
});

/** A link of its own to one recording: it opens a private one too, and can be taken back alone. */
export class ShareLink extends ShareLinkSchema.class {}
ShareLinkSchema.setClass(ShareLink);

/** Links beside recordings, for the query builder. */
export type LinkTables = RecordTables & TablesOf<typeof ShareLinkSchema>;
