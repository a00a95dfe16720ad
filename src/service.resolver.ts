import { readFile } from "node:fs/promises";
import { Field, Int, ObjectType, Query, registerEnumType, Resolver } from "type-graphql";
import type { Quality } from "./audio/mp3/quality.ts";
import { Facts } from "./graphql/field-facts.ts";
import { GraphQLSafeInt } from "./graphql/scalars.ts";
import { QualityEnum, VisibilityEnum } from "./record/record.type.ts";
import type { Config } from "./settings/config.ts";
import type { Visibility } from "./settings/visibility.ts";
import { shownQuota, UsageLimitsType } from "./upload/usage.resolver.ts";

const RegistrationEnum = { OPEN: "OPEN", INVITE: "INVITE", CLOSED: "CLOSED" } as const;
registerEnumType(RegistrationEnum, {
  name: "Registration",
  description: "Who can create a user with `createUser`.",
  valuesConfig: {
    OPEN: { description: "Anyone." },
    INVITE: { description: "Anyone who has an invitation from the operator." },
    CLOSED: { description: "Nobody: the operator creates the users." },
  },
});

/** The longest version according to Semantic Versioning that the service can have. */
const maxVersionLength = 100;

@ObjectType("Service", { description: "What the operator has set for all users of the service." })
class ServiceType {
  @Field(() => String, { description: "Version of the service, according to Semantic Versioning." })
  @Facts({ maxCharacters: maxVersionLength })
  version!: string;

  @Field(() => GraphQLSafeInt, { description: "Maximum size of a file, in bytes." })
  maxUploadBytes!: number;

  @Field(() => Int, { description: "Maximum duration of a recording, in seconds." })
  maxDurationSeconds!: number;

  @Field(() => QualityEnum, { description: "Quality of an upload that does not choose one." })
  quality!: Quality;

  @Field(() => VisibilityEnum, { description: "Visibility of an upload that does not choose one." })
  visibility!: Visibility;

  @Field(() => UsageLimitsType, {
    description: "The quota of users without one of their own. `me.usage.limits` has the caller's.",
  })
  quota!: UsageLimitsType;

  @Field(() => RegistrationEnum, { description: "Who can create a user with `createUser`." })
  registration!: keyof typeof RegistrationEnum;
}

type ServiceSettings = Pick<
  Config,
  "maxUploadBytes" | "maxDurationSeconds" | "quality" | "visibility" | "quota" | "registration"
>;

const registrations = { open: "OPEN", invite: "INVITE", closed: "CLOSED" } as const;

/** What a client can know of the service before it has a user. */
@Resolver()
export class ServiceResolver {
  readonly #service: ServiceType;

  constructor(config: ServiceSettings, version: string) {
    const { maxUploadBytes, maxDurationSeconds, quality, visibility } = config;
    this.#service = {
      version,
      maxUploadBytes,
      maxDurationSeconds,
      quality,
      visibility,
      quota: shownQuota(config.quota),
      registration: registrations[config.registration],
    };
  }

  @Query(() => ServiceType, {
    description:
      "Limits and defaults of the service, with which a client can refuse a file before it sends it. Needs no token.",
  })
  @Facts({ answersTo: async () => undefined })
  service(): ServiceType {
    return this.#service;
  }
}

/** The version in `package.json`. */
export async function readVersion(): Promise<string> {
  const manifest = await readFile(new URL("../../package.json", import.meta.url), "utf8");
  const { version }: { version: string } = JSON.parse(manifest);
  return version;
}
