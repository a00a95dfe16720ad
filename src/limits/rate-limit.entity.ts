import { defineEntity, p } from "@mikro-orm/core";

export const RateLimitSchema = defineEntity({
  name: "RateLimit",
  tableName: "rate_limit",
  properties: {
    key: p.text().primary(),
    points: p.integer().default(0),
    /** Milliseconds since 1970. */
    expire: p.bigint("number").nullable().index(),
  },
});

/** Counts of recent actions. `rate-limiter-flexible` expects these columns in this order. */
export class RateLimit extends RateLimitSchema.class {}
RateLimitSchema.setClass(RateLimit);
