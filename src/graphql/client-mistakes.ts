import {
  BREAK,
  GraphQLError,
  Kind,
  visit,
  type ASTNode,
  type DocumentNode,
  type VariableDefinitionNode,
} from "graphql";
import { Upload } from "graphql-upload-minimal";
import { ServiceError } from "../errors/errors.ts";
import { howToSendFile } from "./upload-scalar.ts";
import { namedTypeOf } from "./upload-once-rule.ts";

/** The parts of a request in which mistakes are found. */
export interface MistakenRequest {
  /** Undefined if it could not be parsed. */
  readonly document: DocumentNode | undefined;
  readonly variables: Readonly<Record<string, unknown>>;
}

/** Maximum length of a message that repeats input, in characters. */
const maxMessageLength = 500;
const howToWriteTime = "Write a time with its zone, as in 2007-12-03T10:15:30Z.";

/**
 * Translates a client's mistake that graphql-js or Apollo Server found into an error with a code: a method, a persisted
 * query, a variable or an argument. Undefined if they have a code for it, or if it is not a mistake.
 */
export function clientMistake(error: GraphQLError, request: MistakenRequest): ServiceError | undefined {
  const cause = innermost(error);
  if (!(cause instanceof GraphQLError)) return undefined;
  const { code, http } = error.extensions;
  if (isStatus(http, 405)) {
    return new ServiceError("METHOD_NOT_ALLOWED", "GET is only for queries. Send mutations with POST.");
  }
  if (code === undefined && isStatus(http, 400)) {
    return new ServiceError("BAD_REQUEST", `The persisted query cannot be used: ${error.message}.`);
  }
  const message = boundedMessage(error.message);
  const [node] = error.nodes ?? [];
  if (code === "BAD_USER_INPUT" && node?.kind === Kind.VARIABLE_DEFINITION) {
    const missing = namedTypeOf(node.type) === "Upload" ? missingFile(node, request.variables) : message;
    return new ServiceError("BAD_USER_INPUT", missing, argumentOf(error, request));
  }
  const argument = /^Argument "(\w+)" /.exec(cause.message)?.[1];
  if (argument !== undefined) return new ServiceError("BAD_USER_INPUT", message, { argument });
  if (message.startsWith("Too many errors processing variables")) {
    return new ServiceError("BAD_USER_INPUT", "The variables have more than 50 invalid values.");
  }
  return code === undefined && message.startsWith("Schema is not configured to execute")
    ? new ServiceError("BAD_REQUEST", "Subscriptions are not supported. Use a query.")
    : undefined;
}

/** The ServiceError that a resolver or a scalar threw, if any. */
export function serviceErrorIn(error: GraphQLError): ServiceError | undefined {
  const cause = innermost(error);
  return cause instanceof ServiceError ? cause : undefined;
}

/**
 * The argument that an error is about, with the path of input fields, such as `filter.createdAt.from`; empty if it is
 * not about an argument.
 */
export function argumentOf(error: GraphQLError, { document }: MistakenRequest): { argument?: string } {
  const [node, ...more] = error.nodes ?? [];
  if (!document || !node || more.length > 0) return {};
  if (node.kind !== Kind.VARIABLE_DEFINITION) return named(placeOf(document, (found) => found === node));
  const name = node.variable.name.value;
  const place = placeOf(document, (found) => found.kind === Kind.VARIABLE && found.name.value === name);
  const inside = new RegExp(` at "${name}((?:\\.\\w+|\\[\\d+\\])+)"; `).exec(error.message)?.[1] ?? "";
  return named(place === undefined ? undefined : `${place}${inside.replace(/\[\d+\]/g, "")}`);
}

/** Truncates a message of graphql-js, which repeats input. If it is about a time, it adds how to write one. */
export function boundedMessage(message: string): string {
  const bounded = message.length > maxMessageLength ? `${message.slice(0, maxMessageLength).toWellFormed()}…` : message;
  return /(?:^|; )DateTime cannot /.test(message) ? `${bounded} ${howToWriteTime}` : bounded;
}

function missingFile({ variable }: VariableDefinitionNode, variables: Readonly<Record<string, unknown>>): string {
  const name = variable.name.value;
  const elsewhere = Object.keys(variables).find((key) => variables[key] instanceof Upload);
  return elsewhere === undefined
    ? `The variable "$${name}" has no file. ${howToSendFile}`
    : `The variable "$${name}" has no file: \`map\` puts it into \`variables.${elsewhere.slice(0, 60)}\`. Use one name for both.`;
}

/** The argument that contains the first matching node, with the path of input fields. */
function placeOf(document: DocumentNode, matches: (node: ASTNode) => boolean): string | undefined {
  let place: string | undefined;
  visit(document, {
    enter(node, _key, parent, _path, ancestors) {
      if (!matches(node)) return undefined;
      const names = [...ancestors, parent, node].flatMap((holder) =>
        holder && "kind" in holder && (holder.kind === Kind.ARGUMENT || holder.kind === Kind.OBJECT_FIELD)
          ? holder.name.value
          : [],
      );
      if (names.length === 0) return undefined; // its definition
      place = names.join(".");
      return BREAK;
    },
  });
  return place;
}

function named(argument: string | undefined): { argument?: string } {
  return argument === undefined ? {} : { argument };
}

function innermost(error: GraphQLError): Error {
  const { originalError } = error;
  return originalError instanceof GraphQLError ? innermost(originalError) : (originalError ?? error);
}

function isStatus(http: unknown, status: number): boolean {
  return typeof http === "object" && http !== null && "status" in http && http.status === status;
}
