/** Why the embedded PostgreSQL cannot be used, as a sentence for the operator, who can act on it. May name folders. */
export class EmbeddedPostgresError extends Error {
  override readonly name = "EmbeddedPostgresError";
}

/** The data folder belongs to a service that runs: its PostgreSQL can be used beside it, but no second one started. */
export class DataFolderInUseError extends EmbeddedPostgresError {
  /** The folder, absolute and without symbolic links. */
  readonly path: string;

  constructor(path: string, message: string, options: ErrorOptions) {
    super(message, options);
    this.path = path;
  }
}
