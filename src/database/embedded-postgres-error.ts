/** Why the embedded PostgreSQL cannot be used, as a sentence for the operator, who can act on it. May name folders. */
export class EmbeddedPostgresError extends Error {
  override readonly name = "EmbeddedPostgresError";
}
