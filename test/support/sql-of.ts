import type { Pool, PoolClient } from "pg";

/** Runs something and returns what SQL went through the pool meanwhile, whoever sent it. */
export async function sqlOf(pool: Pool, action: () => Promise<unknown>): Promise<string[]> {
  const statements: string[] = [];
  const overheard = new Set<PoolClient>();
  const overhear = (client: PoolClient): void => {
    if (overheard.has(client)) return;
    overheard.add(client);
    const query = client.query.bind(client) as (...args: any[]) => any;
    client.query = (...args: any[]): any => {
      statements.push(typeof args[0] === "string" ? args[0] : args[0].text);
      return query(...args);
    };
  };
  pool.on("acquire", overhear);
  try {
    await action();
  } finally {
    pool.off("acquire", overhear);
    for (const client of overheard) Reflect.deleteProperty(client, "query");
  }
  return statements;
}
