import type { FastifyReply } from "fastify";

/** The new value by the value that was there, for each field; all come from this service, so they are few. */
const added = new Map<string, Map<string, string>>();

/** Adds a request header to `Vary` (RFC 9110 section 12.5.5). */
export function addVary(reply: FastifyReply, field: string): void {
  if (!reply.hasHeader("vary")) return void reply.header("vary", field);
  const header = reply.getHeader("vary");
  // Not put together for each response: a new string would be hashed again.
  const known = typeof header === "string" ? header : [header ?? []].flat().join(", ");
  let values = added.get(field);
  if (!values) added.set(field, (values = new Map()));
  let value = values.get(known);
  if (value === undefined) values.set(known, (value = withField(known, field)));
  void reply.header("vary", value);
}

function withField(known: string, field: string): string {
  const fields = known.split(/, */).filter(Boolean);
  const isThere = fields.some((other) => other === "*" || other.toLowerCase() === field.toLowerCase());
  return (isThere ? fields : [...fields, field]).join(", ");
}
