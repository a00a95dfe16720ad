import type { GraphQLField } from "graphql";
import { Extensions } from "type-graphql";
import type { Caller, TokenScope } from "../caller/caller.ts";
import type { RequestContext } from "./request-context.ts";

/** Position of a field in an operation. */
interface FieldPlace {
  /** Id of the user who owns the objects around the field; 0 for a user that the operation will create. */
  readonly ownerId: number;
  /** Whether the field is inside a list, however short that list is. */
  readonly isInList: boolean;
}

/**
 * Declares what is known about a field before it runs. `refuse-before-running.ts` uses it to refuse a whole operation
 * before anything is done. The functions get the arguments that the resolver will get.
 */
export interface FieldFacts<Args = unknown> {
  /** Maximum length of the field's list. Arguments out of range count as the nearest value in range. */
  listLength?(args: Args): number;
  /**
   * Maximum number of characters of the field's text, or of each text in its list. For a URL, those after the origin.
   */
  readonly maxCharacters?: number;
  /** Set if the field reads a file, which may take hours. It calls `RequestContext.roomForAnswer` afterwards. */
  readonly takesFile?: true;
  /** Set if only the owner may select the field, with a token that has this scope. */
  readonly ownerOnly?: TokenScope;
  /** @throws {ServiceError} if the field cannot be selected with these arguments or at this position */
  check?(args: Args, place: FieldPlace): void;
  /**
   * For a field of Query or Mutation: finds the user who owns its result. By default, that is the user of the Bearer
   * token, which must have READ for a query and WRITE for a mutation. Returns undefined for a user that the field will
   * create.
   * @throws {ServiceError} as `RequestContext.caller` does
   */
  answersTo?(args: Args, context: RequestContext): Promise<Caller | undefined>;
}

/** Declares the facts of a field. */
export function Facts<Args>(facts: FieldFacts<Args>): MethodDecorator & PropertyDecorator {
  return Extensions({ facts });
}

/** The facts that were declared with {@link Facts}. */
export function factsOf({ extensions }: GraphQLField<unknown, unknown>): FieldFacts {
  return (extensions as { facts?: FieldFacts }).facts ?? {};
}
