/** Parses the URL as node-postgres does. MikroORM 7.2 ignores `sslmode`, and `host` after the `?`. */
export function driverOptions(databaseUrl: string) {
  return { connectionString: databaseUrl };
}
