/** Why the embedded PostgreSQL cannot be used, as a sentence for the operator with what to do. It may name folders. */
export class EmbeddedPostgresError extends Error {
  override readonly name = "EmbeddedPostgresError";
}

/** The data folder is in use by a running service. Its PostgreSQL can be used, but a second one cannot be started. */
export class DataFolderInUseError extends EmbeddedPostgresError {
  /** The folder, absolute and without symbolic links. */
  readonly path: string;

  constructor(path: string, message: string, options: ErrorOptions) {
    super(message, options);
    this.path = path;
  }
}
