import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

/** A proxy for a PostgreSQL server that can be cut, silenced and observed. */
export interface DatabaseProxy extends AsyncDisposable {
  /** The given address, but through the proxy. */
  readonly url: string;
  /** Number of statements so far. */
  readonly statements: number;
  /** Whether the loss that {@link lose} requested has happened. */
  readonly lost: boolean;
  /**
   * Ends the connection of a statement, counted from now on: either before it reaches the database, or when it is done
   * and its response is on the way back. With `forGood`, the proxy is cut from then on. With `of`, only statements whose
   * SQL matches it count, so that those which the service makes from time to time do not.
   */
  lose(what: "statement" | "answer", number: number, options?: { forGood?: boolean; of?: RegExp }): void;
  /** Ends every connection and accepts no more. */
  cut(): void;
  /** Keeps every connection, accepts more, and passes no bytes. */
  silence(): void;
  /** Passes everything again. Silenced connections stay silent. */
  restore(): void;
}

/** The SQL with which an upload begins, stores its bytes, asks whether to go on, and ends. */
export const ofUploads = /"verdict"|charge_allowance|^select "id" from "audio_record" where "id" = \$1 and "state"/;

/** Puts a proxy in front of the database with this address. */
export async function startDatabaseProxy(databaseUrl: string): Promise<DatabaseProxy> {
  const target = new URL(databaseUrl);
  const folder = target.searchParams.get("host") ?? decodeURIComponent(target.hostname);
  const port = Number(target.port || 5432);
  let way: "open" | "cut" | "silent" = "open";
  let statements = 0;
  let losing: { what: "statement" | "answer"; left: number; forGood: boolean; of: RegExp } | undefined;
  let lost = false;
  const sockets = new Set<Socket>();

  const server = createServer((client) => {
    keep(client);
    if (way === "cut") client.destroy();
    if (way !== "open") return;
    const database = folder.startsWith("/") ? connect(`${folder}/.s.PGSQL.${port}`) : connect(port, folder);
    keep(database);
    let hit: "statement" | "answer" | undefined;
    const count = statementCounter((text) => {
      statements++;
      if (losing?.of.test(text) && --losing.left === 0) hit = losing.what;
    });
    const lose = () => {
      lost = true;
      if (losing?.forGood) cut();
      else client.destroy();
    };
    client.on("data", (bytes: Buffer) => {
      if (way === "silent") return;
      count(bytes);
      if (hit === "statement") lose();
      else database.write(bytes);
    });
    // The server sends nothing of a response before the statement is done and, outside of transactions, committed.
    database.on("data", (bytes: Buffer) => {
      if (way === "silent") return;
      if (hit === "answer") lose();
      else client.write(bytes);
    });
    client.on("close", () => database.destroy());
    database.on("close", () => client.destroy());
  });
  function cut(): void {
    way = "cut";
    for (const socket of sockets) socket.destroy();
  }
  function keep(socket: Socket): void {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => sockets.delete(socket));
  }

  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The proxy has no port");
  const url = new URL(`postgresql://127.0.0.1:${address.port}${target.pathname}`);
  url.username = target.username;
  url.password = target.password;
  return {
    url: url.href,
    get statements() {
      return statements;
    },
    get lost() {
      return lost;
    },
    lose(what, number, { forGood = false, of = /^/ } = {}) {
      lost = false;
      losing = { what, left: number, forGood, of };
    },
    cut,
    silence: () => void (way = "silent"),
    restore() {
      way = "open";
      losing = undefined;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((closed) => server.close(closed));
    },
  };
}

/**
 * Counts Execute and Query messages of the frontend. Parse has the SQL of a statement and its name, which may be empty, and Bind
 * has the name of the one that is executed (PostgreSQL manual, "Message Formats").
 */
function statementCounter(onStatement: (text: string) => void): (bytes: Buffer) => void {
  let rest = Buffer.alloc(0);
  let started = false;
  const parsed = new Map<string, string>();
  let bound = "";
  return (bytes) => {
    rest = Buffer.concat([rest, bytes]);
    for (;;) {
      const head = started ? 1 : 0; // the startup message has no type
      if (rest.length < head + 4) return;
      const end = head + rest.readUInt32BE(head);
      if (rest.length < end) return;
      const type = started ? String.fromCodePoint(rest[0]!) : "";
      const text = (position: number): string => rest.toString("utf8", head + 4, end).split("\0")[position]!;
      if (type === "P") parsed.set(text(0), text(1));
      if (type === "B") bound = text(1); // after the name of the portal
      if (type === "E") onStatement(parsed.get(bound) ?? "");
      if (type === "Q") onStatement(text(0));
      started = true;
      rest = rest.subarray(end);
    }
  };
}
