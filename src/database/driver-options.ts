/** The URL as node-postgres reads it. MikroORM 7.2 reads less: no `sslmode`, and no `host` behind the `?`. */
export function driverOptions(databaseUrl: string) {
  return { connectionString: databaseUrl };
}
