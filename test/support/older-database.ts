import { MikroORM } from "@mikro-orm/postgresql";
import { migrations } from "../../src/migrations/index.ts";
import { ormOptions } from "../../src/orm-options.ts";

/** The names of all migrations but the last: each leaves the tables that a release before this one had. */
export const earlierMigrations = migrations.slice(0, -1).map(({ name }) => name);

/** Applies the migrations up to one of them, which is applied too, to an empty database. */
export async function migrateUpTo(url: string, migration: string): Promise<void> {
  const { migrations: options, ...others } = ormOptions(url, 2);
  const orm = await MikroORM.init({ ...others, migrations: { ...options, snapshot: false } });
  try {
    await orm.migrator.up({ to: migration });
  } finally {
    await orm.close(true);
  }
}
