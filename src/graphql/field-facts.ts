import type { GraphQLField } from "graphql";
import { Extensions } from "type-graphql";
import type { Caller, TokenScope } from "../caller/caller.ts";
import type { RequestContext } from "./request-context.ts";

/** Where in an operation a field stands. */
export interface FieldPlace {
  /** The user whom the answer around the field belongs to; 0: one that the operation is about to create. */
  readonly ownerId: number;
  /** The types of the objects around the field, the nearest last. */
  readonly around: readonly string[];
}

/**
 * What a field says about itself before it runs. `refuse-before-running.ts` reads it, so that an operation is refused
 * as a whole, and nothing is done, for whatever can be known. The functions get the arguments that the resolver will get.
 */
export interface FieldFacts<Args = unknown> {
  /** Values in the field's list, at most. Arguments out of range count as the nearest one in range. */
  listLength?(args: Args): number;
  /** Characters of the field's text, or of each text in its list, at most; of an address, those behind its origin. */
  readonly maxCharacters?: number;
  /** Set when only the owner may ask for it, with a token that has this scope. */
  readonly ownerOnly?: TokenScope;
  /** @throws {ServiceError} when the field cannot be asked for with these arguments or at this place */
  check?(args: Args, place: FieldPlace): void;
  /**
   * For a field of Query or Mutation: the user whom its answer belongs to; without it the user of the Bearer token, which
   * has to have READ for a query and WRITE for a mutation.
   * Undefined: a user that the field is about to create.
   * @throws {ServiceError} as `RequestContext.caller` does
   */
  answersTo?(args: Args, context: RequestContext): Promise<Caller | undefined>;
}

/** Declares the facts of a field. */
export function Facts<Args>(facts: FieldFacts<Args>): MethodDecorator & PropertyDecorator {
  return Extensions({ facts });
}

/** What was declared with {@link Facts}. */
export function factsOf({ extensions }: GraphQLField<unknown, unknown>): FieldFacts {
  return (extensions as { facts?: FieldFacts }).facts ?? {};
}
