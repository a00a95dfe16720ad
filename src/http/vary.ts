import type { FastifyReply } from "fastify";

/** Adds a request header to `Vary` (RFC 9110 section 12.5.5). */
export function addVary(reply: FastifyReply, field: string): void {
  if (!reply.hasHeader("vary")) return void reply.header("vary", field);
  const fields = [reply.getHeader("vary") ?? []].flat().join(", ").split(/, */).filter(Boolean);
  if (fields.some((known) => known === "*" || known.toLowerCase() === field.toLowerCase())) return;
  void reply.header("vary", [...fields, field].join(", "));
}
