/** Connections that the embedded PostgreSQL takes at once. */
export const embeddedConnections = 50;

/** The largest pool on it: the rest is for migrations, the operator's command and people who look into it. */
export const maxEmbeddedPoolSize = 40;
