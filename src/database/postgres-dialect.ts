import {
  PostgresDialect,
  type CompiledQuery,
  type DatabaseConnection,
  type Driver,
  type QueryResult,
  type TransactionSettings,
} from "kysely";
import type { ClientBase, Pool, PoolClient, QueryConfig, QueryResult as Answer, QueryResultRow } from "pg";
import { failureClass, isDatabaseUnavailable, isPlanOutdated, isStatementEnded } from "../errors/database-failures.ts";
import { isCommitted } from "./transaction.ts";

/** Is told how long a statement took, in seconds, and the class of its failure if it failed. */
export type OnStatementEnd = (seconds: number, failure?: string) => void;

/** A statement that PostgreSQL may keep under a name, with its plan, as long as the connection lasts. */
export interface KeptQuery<Row = unknown> extends CompiledQuery<Row> {
  readonly statementName: string;
}

/**
 * Connections that lead to one process of PostgreSQL and always the same. A pooling proxy may lend another one for each
 * transaction, which does not have the statements that were kept.
 */
const direct = new WeakSet<ClientBase>();

/**
 * Makes settings on a new connection, and finds out which process of PostgreSQL has answered. When a client connects, a pooling
 * proxy names another one (BackendKeyData): it does not let its clients cancel the statements of others.
 */
export async function setUp(client: ClientBase, settings: string): Promise<void> {
  // SQL as text: settings of a session, and a fact of the server.
  const answers: unknown = await client.query(`${settings}; select pg_backend_pid() as pid`);
  const pid = areSeveral(answers) ? answers.at(-1)?.rows[0]?.pid : undefined;
  if (pid === Reflect.get(client, "processID")) direct.add(client);
}

/**
 * Lets MikroORM and its query builder use the service's connections. Kysely 0.29 keeps a connection whose server no
 * longer answers, leaks one on which no transaction could begin, and cannot tell whether a lost COMMIT was executed.
 */
export class PooledPostgres extends PostgresDialect {
  readonly #pool: Pool;
  readonly #onEnd: OnStatementEnd | undefined;

  constructor(pool: Pool, onEnd?: OnStatementEnd) {
    super({ pool });
    this.#pool = pool;
    this.#onEnd = onEnd;
  }

  override createDriver(): Driver {
    return new PooledDriver(this.#pool, this.#onEnd);
  }
}

class PooledDriver implements Driver {
  readonly #pool: Pool;
  readonly #onEnd: OnStatementEnd | undefined;

  constructor(pool: Pool, onEnd: OnStatementEnd | undefined) {
    this.#pool = pool;
    this.#onEnd = onEnd;
  }

  async init(): Promise<void> {}

  async acquireConnection(): Promise<DatabaseConnection> {
    const client = await this.#pool.connect().catch((error: unknown) => {
      throw error instanceof Error ? Object.assign(error, { nothingSent: true }) : error;
    });
    return new BorrowedConnection(client, this.#onEnd);
  }

  /** Also reads the transaction's id, with which the server can tell its outcome later. */
  async beginTransaction(connection: DatabaseConnection, settings: TransactionSettings): Promise<void> {
    const borrowed = asBorrowed(connection);
    const { isolationLevel = "read committed", accessMode = "" } = settings; // a read-only server stays one
    borrowed.isInTransaction = true;
    try {
      const answers: unknown = await borrowed.send(
        `begin isolation level ${isolationLevel} ${accessMode}; select pg_current_xact_id() as id`,
      );
      borrowed.transactionId = transactionIdIn(answers);
    } catch (error) {
      borrowed.giveUp();
      borrowed.release();
      throw error;
    }
  }

  async commitTransaction(connection: DatabaseConnection): Promise<void> {
    const borrowed = asBorrowed(connection);
    try {
      await borrowed.send("commit");
    } catch (error) {
      // If every connection loses a commit at once, none would be free to ask the server with.
      borrowed.giveUp();
      borrowed.release();
      if (!(await isCommitted(this.#pool, borrowed.transactionId, error))) throw error;
    }
  }

  /** Never fails: closing the connection ends its transaction. */
  async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    const borrowed = asBorrowed(connection);
    if (!borrowed.isGivenUp) await borrowed.send("rollback").catch(() => borrowed.giveUp());
  }

  async releaseConnection(connection: DatabaseConnection): Promise<void> {
    asBorrowed(connection).release();
  }

  async destroy(): Promise<void> {
    await this.#pool.end();
  }
}

/** A connection in use. It is closed afterwards if the database failed on it. */
class BorrowedConnection implements DatabaseConnection {
  transactionId = "";
  /** A transaction whose statement took too long holds its locks until its connection is closed. */
  isInTransaction = false;
  isGivenUp = false;
  readonly giveUp = (): void => void (this.isGivenUp = true);
  readonly #client: PoolClient;
  readonly #onEnd: OnStatementEnd | undefined;
  #isReleased = false;

  constructor(client: PoolClient, onEnd: OnStatementEnd | undefined) {
    this.#client = client;
    this.#onEnd = onEnd;
    client.on("error", this.giveUp);
  }

  async send<Row extends QueryResultRow>(
    text: string,
    values?: readonly unknown[],
    statementName?: string,
  ): Promise<Answer<Row>> {
    const startedAt = performance.now();
    try {
      const answer = await this.#query<Row>({ text, ...(values && { values: [...values] }) }, statementName);
      this.#onEnd?.((performance.now() - startedAt) / 1000);
      return answer;
    } catch (error) {
      this.#onEnd?.((performance.now() - startedAt) / 1000, failureClass(error));
      const isHealthy = isStatementEnded(error) && !this.isInTransaction;
      if (isDatabaseUnavailable(error) && !isHealthy) this.giveUp();
      throw error;
    }
  }

  /**
   * Sends a statement, which the server may keep if it has a name. Not in a transaction: it could not go on after a statement whose kept
   * plan is outdated.
   */
  async #query<Row extends QueryResultRow>(
    query: QueryConfig,
    statementName: string | undefined,
  ): Promise<Answer<Row>> {
    // SQL as text: here the statements of MikroORM and its query builder go out.
    const run = async (query: QueryConfig) => await this.#client.query<Row>(query);
    if (statementName === undefined || this.isInTransaction || !direct.has(this.#client)) return await run(query);
    try {
      return await run({ ...query, name: statementName });
    } catch (error) {
      if (!isPlanOutdated(error)) throw error;
      this.giveUp();
      return await run(query);
    }
  }

  async executeQuery<Row>(query: CompiledQuery & Partial<KeptQuery>): Promise<QueryResult<Row>> {
    const { sql, parameters, statementName } = query;
    const { rows, rowCount } = await this.send<Row & QueryResultRow>(sql, parameters, statementName);
    return rowCount === null ? { rows } : { rows, numAffectedRows: BigInt(rowCount) };
  }

  // oxlint-disable-next-line require-yield
  async *streamQuery(): AsyncIterableIterator<never> {
    throw new Error("Rows are not streamed.");
  }

  release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    this.#client.off("error", this.giveUp);
    this.#client.release(this.isGivenUp);
  }
}

function asBorrowed(connection: DatabaseConnection): BorrowedConnection {
  if (connection instanceof BorrowedConnection) return connection;
  throw new TypeError("The connection is another driver's.");
}

/** The driver's types do not express that two statements have two results. */
function transactionIdIn(answers: unknown): string {
  if (!isPair(answers)) throw new Error("The transaction has no id.");
  return answers[1].rows[0]!.id;
}

function areSeveral(answers: unknown): answers is Answer<{ pid: number }>[] {
  return Array.isArray(answers);
}

function isPair(answers: unknown): answers is [unknown, Answer<{ id: string }>] {
  return Array.isArray(answers) && answers.length === 2;
}
