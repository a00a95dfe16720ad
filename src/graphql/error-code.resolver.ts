import { Query, Resolver } from "type-graphql";
import { documentedErrorCodes } from "./documented-error-codes.ts";
import { ErrorDescriptionType } from "./error-code.type.ts";
import { Facts } from "./field-facts.ts";

@Resolver()
export class ErrorCodeResolver {
  @Query(() => [ErrorDescriptionType], {
    description:
      "Every error code with its meaning. Needs no token. If your documents select `code`, code generators write the " +
      "enum `ErrorCode`.",
  })
  @Facts({ answersTo: async () => undefined, listLength: () => documentedErrorCodes.length })
  errorCodes(): readonly ErrorDescriptionType[] {
    return documentedErrorCodes;
  }
}
