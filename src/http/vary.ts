import type { FastifyReply } from "fastify";

/** What was added to which value; both come from this service, so they are few. */
const added = new Map<string, string>();

/** Adds a request header to `Vary` (RFC 9110 section 12.5.5). */
export function addVary(reply: FastifyReply, field: string): void {
  if (!reply.hasHeader("vary")) return void reply.header("vary", field);
  const known = [reply.getHeader("vary") ?? []].flat().join(", ");
  const key = `${field}: ${known}`;
  const value = added.get(key) ?? withField(known, field);
  added.set(key, value);
  void reply.header("vary", value);
}

function withField(known: string, field: string): string {
  const fields = known.split(/, */).filter(Boolean);
  const isThere = fields.some((other) => other === "*" || other.toLowerCase() === field.toLowerCase());
  return (isThere ? fields : [...fields, field]).join(", ");
}
