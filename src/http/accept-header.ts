/**
 * The weight that an `Accept` header gives to a type, from 0, not wanted, to 1: that of the most specific range that
 * covers it (RFC 9110 section 12.5.1). Without a header everything is wanted.
 * @param type in small letters and without parameters, such as `text/html`
 */
function acceptWeight(accept: string | undefined, type: string): number {
  if (!accept) return 1;
  const weights = weightsIn(accept);
  return weights.get(type) ?? weights.get(type.replace(/\/.*/, "/*")) ?? weights.get("*/*") ?? 0;
}

const graphqlResponse = "application/graphql-response+json";
const json = "application/json";

/**
 * The content type of an answer of the GraphQL API: `application/graphql-response+json` where the header names it and
 * does not like `application/json` better. In this form alone Apollo Client 4 and Apollo Kotlin read the errors of an
 * answer whose status is not 200. Undefined when the client wants neither.
 */
export function graphqlAnswerType(accept: string | undefined): string | undefined {
  if (accept === undefined || accept === json || accept === "*/*") return `${json}; charset=utf-8`;
  const named = weightsIn(accept).get(graphqlResponse) ?? 0;
  const asJson = acceptWeight(accept, json);
  if (named > 0 && named >= asJson) return `${graphqlResponse}; charset=utf-8`;
  if (asJson > 0) return `${json}; charset=utf-8`;
  return acceptWeight(accept, graphqlResponse) > 0 ? `${graphqlResponse}; charset=utf-8` : undefined;
}

/** The ranges of the header and their weights; of a range that stands there twice, with parameters, the largest. */
function weightsIn(accept: string): ReadonlyMap<string, number> {
  const weights = new Map<string, number>();
  for (const range of accept.toLowerCase().split(",")) {
    const [name = "", ...parameters] = range.split(";").map((part) => part.trim());
    const stated = parameters.find((parameter) => /^q *=/.test(parameter));
    const weight = stated === undefined ? 1 : Number(stated.replace(/^q *= */, ""));
    const type = name === "*" ? "*/*" : name; // as Java's HttpURLConnection writes it
    weights.set(type, Math.max(Number.isNaN(weight) ? 1 : weight, weights.get(type) ?? 0));
  }
  return weights;
}
