import type { InferKyselyDB, MetadataStorage, SqlEntityManager } from "@mikro-orm/postgresql";
import { CamelCasePlugin, type Compilable, type CompiledQuery, type Kysely } from "kysely";
import { createHash } from "node:crypto";
import type { KeptQuery } from "./postgres-dialect.ts";

/**
 * The tables of entities for the query builder: tables have the name of the entity, and columns the name of the
 * property, with `Id` appended if it is a reference (`owner` is `ownerId`).
 */
export type TablesOf<Schema extends { name: string }> = Renamed<
  InferKyselyDB<Schema, { tableNamingStrategy: "entity" }>
>;

type Renamed<Tables> = {
  [Table in keyof Tables]: {
    [Column in keyof Tables[Table] as CamelCase<Column & string>]: Tables[Table][Column];
  };
};

type CamelCase<Name extends string> = Name extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<CamelCase<Tail>>}`
  : Name;

/**
 * Converts between the names of entities and those of tables and columns, anywhere in a statement, because every
 * column's name follows from its property's.
 */
class EntityNames extends CamelCasePlugin {
  readonly #tables: ReadonlyMap<string, string>;

  constructor(tables: ReadonlyMap<string, string>) {
    super({ maintainNestedObjectKeys: true });
    this.#tables = tables;
  }

  protected override snakeCase(name: string): string {
    return this.#tables.get(name) ?? super.snakeCase(name);
  }
}

const namesByMetadata = new WeakMap<MetadataStorage, EntityNames>();

function namesOf(em: SqlEntityManager): EntityNames {
  const metadata = em.getMetadata();
  let names = namesByMetadata.get(metadata);
  if (!names) {
    const entities = [...metadata.getAll().values()];
    names = new EntityNames(new Map(entities.map(({ className, tableName }) => [className, tableName])));
    namesByMetadata.set(metadata, names);
  }
  return names;
}

/** The query builders with names, one for each of MikroORM's: it has one for itself and one for each transaction. */
const builders = new WeakMap<Kysely<unknown>, Kysely<unknown>>();

/** MikroORM's query builder. Inside a transaction, it uses that transaction. */
export function queryBuilder<Tables>(em: SqlEntityManager): Kysely<Tables> {
  const kysely: Kysely<unknown> = em.getKysely<unknown>();
  const named = builders.get(kysely) ?? kysely.withPlugin(namesOf(em));
  builders.set(kysely, named);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- which tables there are is known to the types only
  return named as Kysely<Tables>;
}

/** The values that a statement takes. Objects are excluded, because a placeholder has no parts. */
type Value = string | number | boolean | Date | Uint8Array | readonly (string | number)[] | null;

/** A placeholder for a value that is given when the statement runs. */
class Placeholder {
  readonly name: string | symbol;

  constructor(name: string | symbol) {
    this.name = name;
  }
}

/**
 * A statement whose text is built once, and whose values are given each time that it runs. PostgreSQL keeps its plan.
 * @param build gets placeholders for the values, which it can only put into the statement
 */
export function statement<Tables, Values extends { readonly [Name in keyof Values]: Value }, Row>(
  build: (db: Kysely<Tables>, values: Values) => Compilable<Row>,
): (em: SqlEntityManager, values: Values) => Promise<Row[]> {
  const placeholders = new Proxy<Values>(Object.create(null), {
    get: (_values, name) => new Placeholder(name),
    ownKeys: () => {
      throw new TypeError("The values of a statement have to be named one by one.");
    },
  });
  let kept: KeptQuery<Row> | undefined;
  return async (em, values) => {
    const db = queryBuilder<Tables>(em);
    kept ??= named(build(db, placeholders).compile());
    const parameters = kept.parameters.map((value): unknown =>
      value instanceof Placeholder ? Reflect.get(values, value.name) : value,
    );
    const { rows } = await db.executeQuery<Row>({ ...kept, parameters });
    return rows;
  };
}

function named<Row>(compiled: CompiledQuery<Row>): KeptQuery<Row> {
  return { ...compiled, statementName: createHash("sha256").update(compiled.sql).digest("base64url") };
}
