/**
 * The weight of a type in an `Accept` header, from 0 (not acceptable) to 1: that of the most specific range that covers
 * it (RFC 9110 section 12.5.1). Without the header, every type has weight 1.
 * @param type in lower case and without parameters, such as `text/html`
 */
function acceptWeight(accept: string | undefined, type: string): number {
  if (!accept) return 1;
  const weights = weightsIn(accept);
  return weights.get(type) ?? weights.get(type.replace(/\/.*/, "/*")) ?? weights.get("*/*") ?? 0;
}

const graphqlResponse = "application/graphql-response+json";
const json = "application/json";

/**
 * The content type of a GraphQL response: `application/graphql-response+json` if the header names it and does not
 * prefer `application/json`. Only with this type do Apollo Client 4 and Apollo Kotlin read the errors of a response
 * whose status is not 200. Undefined if the client accepts neither.
 */
export function graphqlAnswerType(accept: string | undefined): string | undefined {
  if (accept === undefined || accept === json || accept === "*/*") return `${json}; charset=utf-8`;
  const named = weightsIn(accept).get(graphqlResponse) ?? 0;
  const asJson = acceptWeight(accept, json);
  if (named > 0 && named >= asJson) return `${graphqlResponse}; charset=utf-8`;
  if (asJson > 0) return `${json}; charset=utf-8`;
  return acceptWeight(accept, graphqlResponse) > 0 ? `${graphqlResponse}; charset=utf-8` : undefined;
}

/**
 * The media ranges of the header with their weights. If a range occurs several times, with parameters, the largest
 * counts.
 */
function weightsIn(accept: string): ReadonlyMap<string, number> {
  const weights = new Map<string, number>();
  for (const range of accept.toLowerCase().split(",")) {
    const [name = "", ...parameters] = range.split(";").map((part) => part.trim());
    const stated = parameters.find((parameter) => /^q *=/.test(parameter));
    const weight = stated === undefined ? 1 : Number(stated.replace(/^q *= */, ""));
    const type = name === "*" ? "*/*" : name; // the form that Java's HttpURLConnection sends
    weights.set(type, Math.max(Number.isNaN(weight) ? 1 : weight, weights.get(type) ?? 0));
  }
  return weights;
}
