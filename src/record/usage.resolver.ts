import { GraphQLNonNegativeFloat, GraphQLSafeInt } from "graphql-scalars";
import type { Pool } from "pg";
import { Ctx, Field, FieldResolver, Int, ObjectType, Resolver, Root } from "type-graphql";
import type { RequestContext } from "../request-context.ts";
import { requireSelf } from "../user/require-self.ts";
import { UserType } from "../user/user.type.ts";
import { findUsage, type Quota } from "./quota.ts";

@ObjectType("UsageLimits", { description: "What a user's recordings may take up; null: no limit." })
export class UsageLimitsType {
  @Field(() => GraphQLSafeInt, { nullable: true, description: "Bytes of MP3." })
  bytes!: number | null;

  @Field(() => GraphQLSafeInt, { nullable: true, description: "Seconds of sound." })
  seconds!: number | null;

  @Field(() => Int, { nullable: true, description: "Number of recordings." })
  records!: number | null;
}

@ObjectType("Usage", { description: "What a user's recordings take up; uploads under way do not count yet." })
export class UsageType {
  @Field(() => GraphQLSafeInt, { description: "Bytes of MP3." })
  bytes!: number;

  @Field(() => GraphQLNonNegativeFloat, { description: "Seconds of sound." })
  seconds!: number;

  @Field(() => Int, { description: "Number of recordings." })
  records!: number;

  @Field(() => UsageLimitsType, { description: "What they may take up." })
  limits!: UsageLimitsType;
}

@Resolver(() => UserType)
export class UsageResolver {
  readonly #pool: Pool;
  readonly #defaults: Quota;

  constructor(pool: Pool, defaults: Quota) {
    this.#pool = pool;
    this.#defaults = defaults;
  }

  @FieldResolver(() => UsageType, { description: "What the user's own recordings take up, and what they may." })
  async usage(@Root() user: UserType, @Ctx() context: RequestContext): Promise<UsageType> {
    await requireSelf(context, user.id);
    const { bytes, seconds, records, limits } = await findUsage(this.#pool, Number(user.id), this.#defaults);
    const shown = (limit: number) => (limit === 0 ? null : limit);
    return {
      bytes,
      seconds,
      records,
      limits: { bytes: shown(limits.bytes), seconds: shown(limits.seconds), records: shown(limits.records) },
    };
  }
}
