import { Upload } from "graphql-upload-minimal";
import { ServiceError } from "../errors/errors.ts";
import { decoded } from "../multipart/sent-file-name.ts";
import { cleanText } from "../input/plain-text.ts";
import { refuseLargeJson } from "./bounded-json.ts";

/** The GraphQL request inside a multipart body (GraphQL over HTTP section 5.2). */
export interface GraphQLRequestBody {
  readonly query?: string | undefined;
  readonly operationName?: string | null | undefined;
  readonly variables?: Record<string, unknown> | null | undefined;
  readonly extensions?: Record<string, unknown> | null | undefined;
}

/** The mapping of the file: the name of its part, and the path to its variable. */
interface FileMapping {
  readonly fileField: string;
  readonly path: string;
}

/**
 * Maximum number of values in `operations` and `map`. An upload has about ten arguments, and each value takes memory
 * while it runs.
 */
export const maxJsonValues = 1000;

/**
 * Decodes the text of a field. Valid UTF-8 takes precedence over the charset in the part's header; a BOM is removed.
 * @param charset the charset in the part's header
 * @throws {ServiceError} BAD_REQUEST if it is in another charset
 */
export function readFieldText(field: string, bytes: Buffer, charset: string | undefined): string {
  const isWide = /^utf-?(?:16|32)|^ucs/.test(charset ?? "") || bytes.subarray(0, 4).includes(0);
  const hasWideMark = bytes[0] === 0xff || bytes[0] === 0xfe;
  const text =
    isWide || hasWideMark ? undefined : (decoded(bytes, "utf-8") ?? (charset ? decoded(bytes, charset) : undefined));
  if (text !== undefined) return text;
  const found = isWide || hasWideMark ? (charset ?? "UTF-16") : (charset ?? "another charset");
  throw badRequest(`The field \`${field}\` is in ${cleanText(found, 40)}. Send it in UTF-8.`);
}

/** @throws {ServiceError} BAD_REQUEST if it is not one GraphQL request in JSON */
export function parseOperations(json: string): GraphQLRequestBody {
  const value = parseJson("operations", json);
  if (Array.isArray(value))
    throw badRequest(
      "Batching is not supported: `operations` must be one operation. Send one request for each operation.",
    );
  if (!isObject(value)) throw badRequest("The field `operations` must be a JSON object with `query` and `variables`.");
  const { query, operationName, variables, extensions } = value;
  if (query !== undefined && typeof query !== "string") throw badRequest("`query` must be a string.");
  if (operationName != null && typeof operationName !== "string") throw badRequest("`operationName` must be a string.");
  if (variables != null && !isObject(variables)) throw badRequest("`variables` must be an object, not a string.");
  if (extensions != null && !isObject(extensions)) throw badRequest("`extensions` must be an object.");
  return { query, operationName: operationName || undefined, variables, extensions };
}

/** @throws {ServiceError} BAD_REQUEST if it does not name one file with one path */
export function parseMap(json: string): FileMapping {
  const value = parseJson("map", json);
  const [entry, ...more] = isObject(value) ? Object.entries(value) : [];
  if (more.length > 0) {
    const message = `One request carries one file, but \`map\` names ${more.length + 1}. Send one request for each file.`;
    throw badRequest(message);
  }
  const paths: unknown = entry?.[1];
  if (!entry || !Array.isArray(paths) || paths.length === 0 || typeof paths[0] !== "string") {
    throw badRequest('The field `map` must name one file with its path, as in {"0":["variables.file"]}.');
  }
  if (paths.length > 1) {
    throw badRequest(
      `A file can be used only once, but \`map\` gives ${quoted(entry[0])} ${paths.length} paths. Give it one path.`,
    );
  }
  return { fileField: entry[0], path: paths[0] };
}

/**
 * Puts the upload at the path. It follows own properties only, because a path could name `__proto__` or `constructor`.
 * @throws {ServiceError} BAD_REQUEST if the path does not lead to a null
 */
export function replaceNull(operations: GraphQLRequestBody, path: string, upload: Upload): void {
  const [root, ...keys] = path.split(".");
  const last = keys.pop();
  if (root !== "variables" || last === undefined) {
    throw badRequest(`The path ${quoted(path)} in \`map\` must begin with \`variables.\`, as in \`variables.file\`.`);
  }
  let holder: unknown = operations.variables;
  for (const key of keys) holder = isContainer(holder) && Object.hasOwn(holder, key) ? holder[key] : undefined;
  if (!isContainer(holder) || !Object.hasOwn(holder, last) || holder[last] !== null) {
    const found = isContainer(holder) && Object.hasOwn(holder, last) ? `${kindOf(holder[last])} is` : "nothing is";
    throw badRequest(
      `The path ${quoted(path)} in \`map\` must lead to a null in \`operations\`, but ${found} there. ` +
        `Set ${quoted(path)} to null: the file takes its place.`,
    );
  }
  holder[last] = upload;
}

/**
 * The members and variables of a request that may be read while it runs. Others are dropped, because a request may take
 * hours.
 */
export function readPartOf({ query, operationName, variables, extensions }: GraphQLRequestBody): GraphQLRequestBody {
  const { persistedQuery } = extensions ?? {};
  const read = {
    query,
    operationName: operationName || undefined, // many clients send an empty name if there is none
    // The variables of a persisted query are known only later.
    variables: query ? declaredVariables(query, variables ?? {}) : variables,
    extensions: persistedQuery === undefined ? undefined : { persistedQuery },
  };
  return Object.fromEntries(Object.entries(read).filter(([, value]) => value != null));
}

function declaredVariables(query: string, variables: Record<string, unknown>): Record<string, unknown> {
  const declared = new Set(query.match(/\$\w+/g));
  const isUsed = ([name, value]: [string, unknown]): boolean => declared.has(`$${name}`) || value instanceof Upload;
  return Object.fromEntries(Object.entries(variables).filter(isUsed));
}

/** Quotes text of a client in a message, as one short line. */
export function quoted(text: string): string {
  return `\`${cleanText(text, 60)}\``;
}

function kindOf(value: unknown): string {
  return Array.isArray(value) ? "a list" : typeof value === "object" ? "an object" : `a ${typeof value}`;
}

const examples = {
  operations: '{"query":"mutation ($file: Upload!) { ... }","variables":{"file":null}}',
  map: '{"0":["variables.file"]}',
} as const;

function parseJson(field: keyof typeof examples, json: string): unknown {
  refuseLargeJson(`The field \`${field}\``, json, maxJsonValues);
  try {
    return JSON.parse(json);
  } catch {
    const fault = json === "" ? "is empty" : "is not JSON";
    throw badRequest(`The field \`${field}\` ${fault}. Send JSON, as in ${examples[field]}.`);
  }
}

function isContainer(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return isContainer(value) && !Array.isArray(value);
}

function badRequest(sentence: string): ServiceError {
  return new ServiceError("BAD_REQUEST", sentence);
}
