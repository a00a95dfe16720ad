import type { IncomingMessage } from "node:http";
import { bearerToken } from "../caller/token.ts";
import { graphqlAnswerType } from "../http/accept-header.ts";
import { ServiceError } from "../errors/errors.ts";
import { refuseLargeJson } from "./bounded-json.ts";
import type { GraphQLRequestBody } from "./multipart-fields.ts";

/**
 * Maximum number of characters of a document. A document of 2000 tokens is shorter; long texts belong into variables.
 */
const maxDocumentCharacters = 64 * 1024;

/** Maximum number of values in a request's JSON. The longest list argument has 100. */
const maxJsonValues = 5000;

/** A browser sends these headers to another origin only after a CORS preflight. */
const preflightHeaders = ["apollo-require-preflight", "x-apollo-operation-name", "graphql-preflight"];

/**
 * Refuses a request that a page of another website could make a browser send without a preflight (CSRF): one that is
 * neither JSON nor has a header that needs a preflight. A Bearer token is such a header. Basic is not, because browsers
 * send remembered credentials by themselves.
 *
 * @throws {ServiceError} BAD_REQUEST
 */
export function requirePreflight({ headers, headersDistinct }: IncomingMessage): void {
  if (/^\s*application\/json\s*(?:;|$)/i.test(headers["content-type"] ?? "")) return;
  if (preflightHeaders.some((name) => headers[name])) return;
  if (bearerToken(headersDistinct.authorization) !== undefined) return;
  throw badRequest(
    "A page of another website could have sent this request. To show that none did, send `Authorization: Bearer <token>`, or the header " +
      "`apollo-require-preflight: true`.",
  );
}

/**
 * Refuses a request that could be executed but not answered.
 *
 * @throws {ServiceError} NOT_ACCEPTABLE if the client accepts neither of the two response types
 */
export function requireAcceptable(accept: string | undefined): void {
  if (graphqlAnswerType(accept) !== undefined) return;
  const message =
    "The service answers in JSON. Name application/graphql-response+json, application/json or */* in the Accept header.";
  throw new ServiceError("NOT_ACCEPTABLE", message);
}

/**
 * Checks the JSON text of a POST before it is parsed.
 *
 * @throws {ServiceError} BAD_REQUEST
 */
export function requireSmallJson(body: string): void {
  refuseLargeJson("The body", body, maxJsonValues);
}

/**
 * Checks that the JSON of a POST is one GraphQL request (GraphQL over HTTP section 5.2).
 *
 * @throws {ServiceError} BAD_REQUEST
 */
export function requireOperation(body: unknown): asserts body is GraphQLRequestBody {
  if (body === undefined) throw badRequest(`The request has no body. ${howToSend}`);
  if (Array.isArray(body)) throw badRequest("Batching is not supported. Send one operation in each request.");
  if (!isObject(body)) throw badRequest(`The body must be a JSON object. ${howToSend}`);
  const { query, operationName, variables, extensions } = body;
  if (query != null && typeof query !== "string") {
    throw badRequest("`query` must be a string with the text of the operation, not its syntax tree.");
  }
  if (operationName != null && typeof operationName !== "string") throw badRequest("`operationName` must be a string.");
  for (const [name, value] of Object.entries({ variables, extensions })) {
    if (value != null && !isObject(value)) throw badRequest(`\`${name}\` must be a JSON object${asText(value)}.`);
  }
  if (typeof query === "string" && query.length > maxDocumentCharacters) {
    throw new ServiceError(
      "QUERY_TOO_COMPLEX",
      `The document may have at most ${maxDocumentCharacters} characters. Send long texts as variables.`,
      { maxDocumentCharacters },
    );
  }
  if (!query && !(isObject(extensions) && extensions.persistedQuery)) {
    throw badRequest(`The request has no operation. ${howToSend}`);
  }
}

/**
 * Checks that the parameters of a GET are one GraphQL request (GraphQL over HTTP section 5.1).
 *
 * @param search the query string, including its question mark
 * @throws {ServiceError} BAD_REQUEST
 */
export function requireOperationIn(search: string): void {
  const parameters = new URLSearchParams(search);
  const given: Record<string, unknown> = {};
  for (const name of ["query", "operationName", "variables", "extensions"]) {
    const [value, ...more] = parameters.getAll(name);
    if (more.length > 0) throw badRequest(`The parameter \`${name}\` may be given only once.`);
    if (value !== undefined)
      given[name] = name === "variables" || name === "extensions" ? parseJson(name, value) : value;
  }
  for (const name of ["variables", "extensions"]) {
    if (name in given && !isObject(given[name])) throw badRequest(`The parameter \`${name}\` must be a JSON object.`);
  }
  if (!given.query && !(isObject(given.extensions) && given.extensions.persistedQuery)) {
    throw badRequest("The request has no operation. Send it as the parameter `query`, or with POST.");
  }
}

/** The error for a body that is not JSON, although its Content-Type says so. */
export function notJson(body: string): ServiceError {
  const fault = body.trim() === "" ? "is empty" : "is not JSON";
  return badRequest(`The body ${fault}, but its Content-Type says JSON. ${howToSend}`);
}

/** Removes an empty `operationName` from the parameters of a GET (GraphQL over HTTP section 5.1). */
export function withoutEmptyNameIn(search: string): string {
  return search === "" ? "" : search.replace(/([?&])operationName=(?=&|$)/g, "$1");
}

const howToSend = 'Send JSON, as in {"query":"{ me { name } }"}, or multipart/form-data with a file.';

function asText(value: unknown): string {
  return typeof value === "string" ? ", not a string that contains JSON" : "";
}

function parseJson(name: string, text: string): unknown {
  refuseLargeJson(`The parameter \`${name}\``, text, maxJsonValues);
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function badRequest(sentence: string): ServiceError {
  return new ServiceError("BAD_REQUEST", sentence);
}
