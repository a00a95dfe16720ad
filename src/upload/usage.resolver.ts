import { GraphQLNonNegativeFloat, GraphQLSafeInt } from "../graphql/scalars.ts";
import { Ctx, Field, FieldResolver, Int, ObjectType, Resolver, Root } from "type-graphql";
import { batchLoader } from "../graphql/batch-loader.ts";
import { Facts } from "../graphql/field-facts.ts";
import type { RequestContext } from "../graphql/request-context.ts";
import type { Quota } from "../settings/config.ts";
import { userDeleted } from "../user/authenticate-user.ts";
import { requireSelf } from "../graphql/require-self.ts";
import { UserType } from "../user/user.type.ts";
import { findUsages, type Usage } from "./quota.ts";

@ObjectType("UsageLimits", { description: "The quota of a user. Null means no limit." })
export class UsageLimitsType {
  @Field(() => GraphQLSafeInt, { nullable: true, description: "MP3 bytes." })
  bytes!: number | null;

  @Field(() => GraphQLSafeInt, { nullable: true, description: "Duration, in seconds." })
  seconds!: number | null;

  @Field(() => Int, { nullable: true, description: "Number of recordings." })
  records!: number | null;
}

@ObjectType("Usage", {
  description: "Storage used by a user's recordings. Uploads that are still running do not count.",
})
export class UsageType {
  @Field(() => GraphQLSafeInt, { description: "MP3 bytes." })
  bytes!: number;

  @Field(() => GraphQLNonNegativeFloat, { description: "Duration, in seconds." })
  seconds!: number;

  @Field(() => Int, { description: "Number of recordings." })
  records!: number;

  @Field(() => UsageLimitsType, { description: "The user's quota." })
  limits!: UsageLimitsType;
}

@Resolver(() => UserType)
export class UsageResolver {
  readonly #usageOf: (context: RequestContext, userId: number) => Promise<Usage | undefined>;

  constructor(defaults: Quota) {
    this.#usageOf = batchLoader(
      async ({ em }, userIds: readonly number[]) => await findUsages(em(), userIds, defaults),
    );
  }

  @FieldResolver(() => UsageType, {
    nullable: true,
    description: "Storage used by the user's own recordings, and the quota. Null only if an error occurred.",
  })
  @Facts({ ownerOnly: "READ" })
  async usage(@Root() user: UserType, @Ctx() context: RequestContext): Promise<UsageType> {
    await requireSelf(context, user.id, "READ");
    const usage = await this.#usageOf(context, Number(user.id));
    if (!usage) throw userDeleted();
    const { bytes, seconds, records, limits } = usage;
    return { bytes, seconds, records, limits: shownQuota(limits) };
  }
}

/** Converts a quota to its API type. */
export function shownQuota({ bytes, seconds, records }: Quota): UsageLimitsType {
  const shown = (limit: number) => (limit === 0 ? null : limit);
  return { bytes: shown(bytes), seconds: shown(seconds), records: shown(records) };
}
