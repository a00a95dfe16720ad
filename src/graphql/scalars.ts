import { GraphQLScalarType, Kind } from "graphql";
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
export const GraphQLURL = specified(withShortHosts(Url), "https://url.spec.whatwg.org/");
export const GraphQLUUID = specified(Uuid, "https://www.rfc-editor.org/rfc/rfc9562#section-4");

/** More characters than a host with its scheme, user and port has: a host has 253 at most (RFC 1035 section 2.3.4). */
const maxHostCharacters = 300;

/** The scalar without addresses whose host is very long: the time to parse one grows with the square of its length. */
function withShortHosts(url: GraphQLScalarType): GraphQLScalarType {
  const { parseValue, parseLiteral, ...others } = url.toConfig();
  const requireShortHost = (given: string): void => {
    // Parsing removes these characters first.
    const plain = given.replaceAll(/[\t\n\r]/g, "");
    const [upToHost = ""] = /^[^/\\?#]*[/\\]*[^/\\?#]*/.exec(plain) ?? [];
    if (upToHost.length > maxHostCharacters) throw new TypeError("Invalid URL: its host is too long");
  };
  return new GraphQLScalarType({
    ...others,
    parseValue: (value) => {
      requireShortHost(String(value));
      return parseValue(value);
    },
    parseLiteral: (node, variables) => {
      if (node.kind === Kind.STRING) requireShortHost(node.value);
      return parseLiteral(node, variables);
    },
  });
}

function specified(scalar: GraphQLScalarType, specifiedByURL: string): GraphQLScalarType {
  return new GraphQLScalarType({ ...scalar.toConfig(), specifiedByURL });
}
