import { registerEnumType, Field, Int, ObjectType } from "type-graphql";
import { documentedErrorCodes } from "./documented-error-codes.ts";
import { Facts } from "./field-facts.ts";

/** The codes as a type of the schema. */
const ErrorCodeEnum = Object.fromEntries(documentedErrorCodes.map(({ code }) => [code, code]));
registerEnumType(ErrorCodeEnum, {
  name: "ErrorCode",
  description:
    "Values of `extensions.code` of an error. New codes may be added: handle unknown ones by their HTTP status.",
  valuesConfig: Object.fromEntries(
    documentedErrorCodes.map(({ code, status, meaning, advice }) => [
      code,
      { description: `${meaning} ${advice} HTTP status ${status}.` },
    ]),
  ),
});

const longest = (texts: readonly string[]): number => Math.max(...texts.map((text) => text.length));

@ObjectType("ErrorDescription", { description: "An error code and what to do about it." })
export class ErrorDescriptionType {
  @Field(() => ErrorCodeEnum, { description: "The code, as `extensions.code` of an error has it." })
  code!: string;

  @Field(() => Int, { description: "HTTP status of a response whose first error has this code." })
  status!: number;

  @Field(() => String, { description: "What happened." })
  @Facts({ maxCharacters: longest(documentedErrorCodes.map(({ meaning }) => meaning)) })
  meaning!: string;

  @Field(() => String, { description: "What a client can do." })
  @Facts({ maxCharacters: longest(documentedErrorCodes.map(({ advice }) => advice)) })
  advice!: string;
}
