import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

/** A proxy in front of an HTTP server, which can be cut and silenced. */
export interface TcpProxy extends AsyncDisposable {
  /** The given address, but through the proxy. */
  readonly url: string;
  /** Bytes that the clients have sent so far. */
  readonly sentBytes: number;
  /** Ends every connection and accepts no more. */
  cut(): void;
  /** Keeps every connection, accepts more, and passes no bytes. */
  silence(): void;
  /** Passes everything again. Silenced connections stay silent. */
  restore(): void;
}

/** Puts a proxy in front of the server with this address. `bytesPerSecond` is what it takes from all clients together. */
export async function startTcpProxy(target: string, { bytesPerSecond = Infinity } = {}): Promise<TcpProxy> {
  const { hostname, port } = new URL(target);
  let way: "open" | "cut" | "silent" = "open";
  let sentBytes = 0;
  let freeAt = 0;
  const sockets = new Set<Socket>();
  const keep = (socket: Socket): void => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => sockets.delete(socket));
  };
  const server = createServer((client) => {
    keep(client);
    if (way === "cut") client.destroy();
    if (way !== "open") return;
    const upstream = connect(Number(port), hostname);
    keep(upstream);
    const pass = (bytes: Buffer): void => {
      sentBytes += bytes.length;
      if (way === "open") upstream.write(bytes);
    };
    client.on("data", (bytes: Buffer) => {
      freeAt = Math.max(freeAt, performance.now()) + (bytes.length / bytesPerSecond) * 1000;
      const aheadMs = freeAt - performance.now();
      if (aheadMs < 1) return pass(bytes);
      client.pause();
      setTimeout(() => {
        pass(bytes);
        client.resume();
      }, aheadMs);
    });
    upstream.on("data", (bytes) => way === "open" && client.write(bytes));
    client.on("close", () => upstream.destroy());
    upstream.on("close", () => client.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The proxy has no port");
  return {
    url: `http://127.0.0.1:${address.port}`,
    get sentBytes() {
      return sentBytes;
    },
    cut() {
      way = "cut";
      for (const socket of sockets) socket.destroy();
    },
    silence: () => void (way = "silent"),
    restore: () => void (way = "open"),
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((closed) => server.close(closed));
    },
  };
}
