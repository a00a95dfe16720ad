import { defineEntity, p } from "@mikro-orm/core";
import type { TablesOf } from "../database/query-builder.ts";

const WriteAllowanceSchema = defineEntity({
  name: "WriteAllowance",
  tableName: "write_allowance",
  properties: {
    /** Whose it is; see `write-allowance.ts`. */
    key: p.text().primary(),
    /** What was taken of it and has not come back by `at`; it comes back evenly. */
    usedBytes: p.double(),
    at: p.datetime(),
  },
});

/** How much strangers have made the database write of late; the function `charge_allowance` keeps it. */
export class WriteAllowanceRow extends WriteAllowanceSchema.class {}
WriteAllowanceSchema.setClass(WriteAllowanceRow);

/** What the service counts, for the query builder. */
export type LimitTables = TablesOf<typeof WriteAllowanceSchema>;
