import { once } from "node:events";
import { connect, type Socket } from "node:net";

/** A download that has ended. */
export interface Download {
  readonly bytes: number;
  /** From the request to the first byte of the body. */
  readonly firstByteMs: number;
  readonly seconds: number;
}

const headEnd = "\r\n\r\n";

/** Downloads a file and discards it, with as little work as possible, so that the figure is the server's. */
export async function download(
  url: string,
  range?: { readonly start: number; readonly end: number },
): Promise<Download> {
  const { hostname, port, pathname, search } = new URL(url);
  let received = 0;
  let firstByteMs = 0;
  let head = "";
  let headBytes: number | undefined;
  const started = performance.now();
  const onBytes = (length: number, buffer: Uint8Array): boolean => {
    received += length;
    if (headBytes === undefined) {
      head += Buffer.from(buffer.buffer, buffer.byteOffset, length).toString("latin1");
      const end = head.indexOf(headEnd);
      if (end >= 0) headBytes = end + headEnd.length;
    }
    if (firstByteMs === 0 && headBytes !== undefined && received > headBytes) firstByteMs = performance.now() - started;
    return true;
  };
  const socket = connect({
    host: hostname,
    port: Number(port),
    onread: { buffer: new Uint8Array(256 * 1024), callback: onBytes },
  });
  const rangeLine = range ? `Range: bytes=${range.start}-${range.end}\r\n` : "";
  socket.write(
    `GET ${pathname}${search} HTTP/1.1\r\nHost: ${hostname}:${port}\r\n${rangeLine}Connection: close${headEnd}`,
  );
  await once(socket, "end");
  const seconds = (performance.now() - started) / 1000;
  socket.destroy();
  const status = Number(head.split(" ", 2)[1]);
  if (status !== (range ? 206 : 200)) throw new Error(`Download refused: ${head}`);
  const bytes = received - headBytes!;
  const announced = Number(/^content-length: (\d+)/im.exec(head)?.[1]);
  if (bytes !== announced) throw new Error(`${bytes} bytes came instead of ${announced}`);
  return { bytes, firstByteMs, seconds };
}

/** A persistent connection for load tests, which sends JSON requests one after the other. */
export class JsonConnection implements Disposable {
  readonly #socket: Socket;
  readonly #host: string;
  #received = "";
  #answered: PromiseWithResolvers<string> | undefined;

  constructor(service: string) {
    const { hostname, port, host } = new URL(service);
    this.#host = host;
    this.#socket = connect(Number(port), hostname);
    this.#socket.setNoDelay(true);
    this.#socket.setEncoding("latin1");
    this.#socket.on("data", (bytes: string) => this.#take(bytes));
    this.#socket.on("error", (error) => this.#answered?.reject(error));
    this.#socket.on("close", () => this.#answered?.reject(new Error("The service closed the connection")));
  }

  /**
   * Runs a GraphQL document.
   * @throws {Error} when the answer is not a 200 without errors
   */
  async run(query: string, variables: object): Promise<void> {
    const body = JSON.stringify({ query, variables });
    const head = `POST /graphql HTTP/1.1\r\nHost: ${this.#host}\r\nContent-Type: application/json\r\nContent-Length: `;
    this.#answered = Promise.withResolvers();
    this.#socket.write(`${head}${Buffer.byteLength(body)}${headEnd}${body}`);
    const answer = await this.#answered.promise;
    if (!answer.startsWith("HTTP/1.1 200 ") || answer.includes('"errors"')) throw new Error(answer);
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  #take(bytes: string): void {
    this.#received += bytes;
    const end = this.#received.indexOf(headEnd);
    if (end < 0) return;
    const bodyBytes = Number(/^content-length: (\d+)/im.exec(this.#received)?.[1]);
    if (this.#received.length < end + headEnd.length + bodyBytes) return;
    this.#answered?.resolve(this.#received);
    this.#received = "";
  }
}
