import { GraphQLScalarType } from "graphql";
import {
  GraphQLDateTime as DateTime,
  GraphQLNonNegativeFloat as NonNegativeFloat,
  GraphQLSafeInt as SafeInt,
  GraphQLURL as Url,
  GraphQLUUID as Uuid,
} from "graphql-scalars";

/** The scalars of the package, each with the specification of its values (`@specifiedBy`). */
export const GraphQLDateTime = specified(DateTime, "https://www.rfc-editor.org/rfc/rfc3339#section-5.6");
export const GraphQLNonNegativeFloat = specified(NonNegativeFloat, "https://www.rfc-editor.org/rfc/rfc8259#section-6");
export const GraphQLSafeInt = specified(SafeInt, "https://tc39.es/ecma262/#sec-number.issafeinteger");
export const GraphQLURL = specified(Url, "https://url.spec.whatwg.org/");
export const GraphQLUUID = specified(Uuid, "https://www.rfc-editor.org/rfc/rfc9562#section-4");

function specified(scalar: GraphQLScalarType, specifiedByURL: string): GraphQLScalarType {
  return new GraphQLScalarType({ ...scalar.toConfig(), specifiedByURL });
}
