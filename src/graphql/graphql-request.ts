import type { IncomingMessage } from "node:http";
import { bearerToken } from "../caller/token.ts";
import { graphqlAnswerType } from "../http/accept-header.ts";
import { ServiceError } from "../errors/errors.ts";
import { refuseLargeJson } from "./bounded-json.ts";

/** Characters of an operation's text. One of 2000 tokens has less; texts that belong to it are sent as variables. */
const maxDocumentCharacters = 64 * 1024;

/** Values of a request's JSON; the longest list that an argument takes has 100. */
const maxJsonValues = 5000;

/** A browser sends these to another origin only if that agrees to it beforehand (a CORS preflight). */
const preflightHeaders = ["apollo-require-preflight", "x-apollo-operation-name", "graphql-preflight"];

/**
 * Refuses a request that a foreign web page could make a browser send without asking first (CSRF): one that is neither
 * JSON nor has a header that needs a preflight. A Bearer token is such a header; Basic is none, for browsers send what
 * they remember of it by themselves.
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
 * Refuses what could be run and then not be answered.
 *
 * @throws {ServiceError} NOT_ACCEPTABLE when the client wants neither of the types that answers have
 */
export function requireAcceptable(accept: string | undefined): void {
  if (graphqlAnswerType(accept) !== undefined) return;
  const message =
    "The service answers in JSON. Name application/graphql-response+json, application/json or */* in the Accept header.";
  throw new ServiceError("NOT_ACCEPTABLE", message);
}

/**
 * Refuses the JSON of a POST by its text, before it is parsed.
 *
 * @throws {ServiceError} BAD_REQUEST
 */
export function requireSmallJson(body: string): void {
  refuseLargeJson("The body", body, maxJsonValues);
}

/**
 * Makes sure that the JSON of a POST is one GraphQL request (GraphQL over HTTP section 5.2).
 *
 * @throws {ServiceError} BAD_REQUEST
 */
export function requireOperation(body: unknown): void {
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
 * Makes sure of the same of the parameters of a GET (section 5.1 there).
 *
 * @param search what stands behind the address, with its question mark
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

/** A request whose operation has the empty name, which many clients send where there is none, as one without a name. */
export function withoutEmptyName(body: unknown): unknown {
  return isObject(body) && body.operationName === "" ? { ...body, operationName: null } : body;
}

/** The same for the parameters of a GET (GraphQL over HTTP section 5.1). */
export function withoutEmptyNameIn(search: string): string {
  return search.replace(/([?&])operationName=(?=&|$)/g, "$1");
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
