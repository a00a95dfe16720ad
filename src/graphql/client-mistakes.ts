import {
  GraphQLError,
  isEnumType,
  Kind,
  visit,
  type ArgumentNode,
  type ASTNode,
  type DocumentNode,
  type GraphQLSchema,
  type ObjectFieldNode,
  type VariableDefinitionNode,
} from "graphql";
import { Upload } from "graphql-upload-minimal";
import { ServiceError } from "../errors/errors.ts";
import { howToSendFile } from "./upload-scalar.ts";
import { namedTypeOf } from "./upload-once-rule.ts";

/** The parts of a request in which mistakes are found. */
export interface MistakenRequest {
  /** The arguments of its document; undefined if it could not be parsed. */
  readonly places: ArgumentPlaces | undefined;
  readonly variables: Readonly<Record<string, unknown>>;
  readonly schema: GraphQLSchema;
  /** Whether messages make no suggestions ("Did you mean ..."), as Apollo's own then. */
  readonly hidesSchema: boolean;
}

/** The arguments that contain parts of a document, with the path of input fields, such as `filter.createdAt.from`. */
export interface ArgumentPlaces {
  readonly ofNode: ReadonlyMap<ASTNode, string>;
  /** By the variable's name; the first one, if several arguments contain it. */
  readonly ofVariable: ReadonlyMap<string, string>;
}

/** Maximum length of a message that repeats input, in characters. */
const maxMessageLength = 500;

/**
 * What to do about faults that graphql-js and the scalars name without it. A message repeats up to a megabyte of input, so
 * none of these may look at the rest of it from more than one place.
 */
const hints: readonly [fault: RegExp, hint: string][] = [
  [/(?:^|; )DateTime cannot /, " Write a time with its zone, as in 2007-12-03T10:15:30Z."],
  [/(?:^|; )Value is not a valid UUID/, ". Write a UUID, as in 3f1c6a52-9d0e-4b7a-8c35-e2d4b9a1f067."],
  [/(?:; |\. )Invalid URL$/, ". Write the whole address, as in https://example.com/l/secret."],
  [
    /^(?:Cannot query field|Unknown (?:argument|type)) .*"\.$|(?:^|; )Field "\w+" is not defined by type "\w+"\.$/s,
    " The schema is at /schema.graphql.",
  ],
  [
    /^Variable "\$\w+" of type .*"\.$|^Expected value of type "\w+Input!?", found .*\.$|; Expected type "\w+" to be an object\.$/s,
    " The schema is at /schema.graphql.",
  ],
];

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
  const message = boundedMessage(error.message, request);
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
export function argumentOf(error: GraphQLError, { places }: MistakenRequest): { argument?: string } {
  const [node, ...more] = error.nodes ?? [];
  if (!places || !node || more.length > 0) return {};
  if (node.kind !== Kind.VARIABLE_DEFINITION) return named(places.ofNode.get(node));
  const name = node.variable.name.value;
  const place = places.ofVariable.get(name);
  const inside = new RegExp(` at "${name}((?:\\.\\w+|\\[\\d+\\])+)"; `).exec(error.message)?.[1] ?? "";
  return named(place === undefined ? undefined : `${place}${inside.replace(/\[\d+\]/g, "")}`);
}

/**
 * Truncates a message of graphql-js, which repeats input. It adds what to do about it, if it does not say so: what to
 * write, or where the schema is.
 */
export function boundedMessage(
  original: string,
  { schema, hidesSchema }: Pick<MistakenRequest, "schema" | "hidesSchema">,
): string {
  const message = hidesSchema ? withoutSuggestion(original) : original;
  const bounded = message.length > maxMessageLength ? `${message.slice(0, maxMessageLength).toWellFormed()}…` : message;
  const [, hint] = hints.find(([fault]) => fault.test(message)) ?? [];
  if (hint !== undefined) return `${bounded}${hint}`;
  // A message that was truncated does not end with the enum.
  const plain = bounded.replace(/ Did you mean the enum value [^?]*\?$/, "");
  const enumName = /(?:does not exist in|(?:^|; )Enum) "(\w+)" (?:enum\.|cannot represent .*)$/s.exec(plain)?.[1];
  const type = enumName === undefined ? undefined : schema.getType(enumName);
  if (!isEnumType(type)) return bounded;
  const names = type.getValues().map(({ name }) => name);
  return `${plain} Use ${names.join(", ")}.`;
}

function withoutSuggestion(message: string): string {
  const at = message.lastIndexOf(" Did you mean ");
  return at >= 0 && message.endsWith("?") ? message.slice(0, at) : message;
}

function missingFile({ variable }: VariableDefinitionNode, variables: Readonly<Record<string, unknown>>): string {
  const name = variable.name.value;
  const elsewhere = Object.keys(variables).find((key) => variables[key] instanceof Upload);
  return elsewhere === undefined
    ? `The variable "$${name}" has no file. ${howToSendFile}`
    : `The variable "$${name}" has no file: \`map\` puts it into \`variables.${elsewhere.slice(0, 60)}\`. Use one name for both.`;
}

/** Reads a document once for all errors in it, of which there may be a hundred. */
export function argumentPlaces(document: DocumentNode): ArgumentPlaces {
  const ofNode = new Map<ASTNode, string>();
  const ofVariable = new Map<string, string>();
  const names: string[] = [];
  visit(document, {
    enter(node) {
      if (isNamedInput(node)) names.push(node.name.value);
      if (names.length === 0) return;
      const place = names.join(".");
      ofNode.set(node, place);
      if (node.kind === Kind.VARIABLE && !ofVariable.has(node.name.value)) ofVariable.set(node.name.value, place);
    },
    leave(node) {
      if (isNamedInput(node)) names.pop();
    },
  });
  return { ofNode, ofVariable };
}

function isNamedInput(node: ASTNode): node is ArgumentNode | ObjectFieldNode {
  return node.kind === Kind.ARGUMENT || node.kind === Kind.OBJECT_FIELD;
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
