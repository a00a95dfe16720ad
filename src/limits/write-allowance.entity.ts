import { defineEntity, p } from "@mikro-orm/core";
import type { TablesOf } from "../database/query-builder.ts";
import type { RateLimitSchema } from "./rate-limit.entity.ts";

const WriteAllowanceSchema = defineEntity({
  name: "WriteAllowance",
  tableName: "write_allowance",
  properties: {
    /** The owner of the allowance; see `write-allowance.ts`. */
    key: p.text().primary(),
    /** Bytes that were taken and not refilled by `at`. The allowance refills evenly. */
    usedBytes: p.double(),
    at: p.datetime(),
  },
});

/** Bytes that new users have recently written, maintained by the database function `charge_allowance`. */
export class WriteAllowanceRow extends WriteAllowanceSchema.class {}
WriteAllowanceSchema.setClass(WriteAllowanceRow);

/** The tables of counts, for the query builder. */
export type LimitTables = TablesOf<typeof WriteAllowanceSchema | typeof RateLimitSchema>;
