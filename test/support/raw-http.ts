import { once } from "node:events";
import { connect, type Socket } from "node:net";

/** An answer as it came over the socket. */
export interface RawAnswer {
  readonly status: number;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
}

/** One part of a multipart body: its raw header lines, and its content. */
export interface RawPart {
  readonly head: string | Buffer;
  readonly content: string | Buffer;
}

/** The boundary of {@link multipartBody}. */
export const boundary = "----test-boundary";

/** A part of a field as browsers send it. */
export function fieldPart(name: string, content: string): RawPart {
  return { head: `Content-Disposition: form-data; name="${name}"`, content };
}

/** A part of a file as browsers send it. */
export function filePart(name: string, fileName: string, content: string | Buffer): RawPart {
  return {
    head: `Content-Disposition: form-data; name="${name}"; filename="${fileName}"\r\nContent-Type: audio/wav`,
    content,
  };
}

/** A multipart body of these parts, byte for byte. */
export function multipartBody(...parts: readonly RawPart[]): Buffer {
  const pieces = parts.flatMap(({ head, content }) => [
    Buffer.from(`--${boundary}\r\n`),
    Buffer.from(head),
    Buffer.from("\r\n\r\n"),
    Buffer.from(content),
    Buffer.from("\r\n"),
  ]);
  return Buffer.concat([...pieces, Buffer.from(`--${boundary}--\r\n`)]);
}

/** A POST with this body; `headers` replace the usual ones, `undefined` leaves one out. */
export function rawPost(body: Buffer, headers: Record<string, string | undefined> = {}): Buffer {
  const lines = Object.entries({
    host: "localhost",
    "content-type": `multipart/form-data; boundary=${boundary}`,
    "content-length": String(body.length),
    "apollo-require-preflight": "1",
    ...headers,
  }).flatMap(([name, value]) => (value === undefined ? [] : `${name}: ${value}\r\n`));
  return Buffer.concat([Buffer.from(`POST /graphql HTTP/1.1\r\n${lines.join("")}\r\n`), body]);
}

/** The bytes as one chunk of a chunked body (RFC 9112 section 7.1). */
export function httpChunk(bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from("\r\n")]);
}

/** A connection that sends given bytes and reads responses. */
export class RawConnection implements Disposable {
  readonly socket: Socket;
  #received = Buffer.alloc(0);
  #arrived = Promise.withResolvers<void>();
  #ended = false;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#wake();
    });
    socket.on("error", () => {});
    for (const event of ["end", "close"]) {
      socket.on(event, () => {
        this.#ended = true;
        this.#wake();
      });
    }
  }

  /** Settles when the operating system has taken the bytes, or the connection is closed. */
  async send(bytes: Buffer | string): Promise<void> {
    await new Promise<void>((resolve) => {
      this.socket.write(bytes, () => resolve());
    });
  }

  /** The next answer, also a 100 Continue; undefined when the server closes the connection without one. */
  async answer(): Promise<RawAnswer | undefined> {
    for (;;) {
      const answer = this.#takeAnswer();
      if (answer) return answer;
      if (this.#ended) return undefined;
      await this.#arrived.promise;
    }
  }

  /** Settles when the server has closed its side. */
  async ended(): Promise<void> {
    while (!this.#ended) await this.#arrived.promise;
  }

  /** Ends the connection with a TCP reset. */
  reset(): void {
    this.socket.resetAndDestroy();
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }

  #takeAnswer(): RawAnswer | undefined {
    const headEnd = this.#received.indexOf("\r\n\r\n");
    if (headEnd < 0) return undefined;
    const [statusLine = "", ...lines] = this.#received.toString("latin1", 0, headEnd).split("\r\n");
    const headers = new Map(
      lines.map((line) => {
        const colon = line.indexOf(":");
        return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
      }),
    );
    const end = headEnd + 4 + Number(headers.get("content-length") ?? 0);
    if (this.#received.length < end) return undefined;
    const body = this.#received.toString("utf8", headEnd + 4, end);
    this.#received = this.#received.subarray(end);
    return { status: Number(statusLine.split(" ")[1]), headers, body };
  }

  #wake(): void {
    this.#arrived.resolve();
    this.#arrived = Promise.withResolvers();
  }
}

/** Connects to a port of this machine; with `allowHalfOpen` the connection stays open when the server ends its side. */
export async function connectRaw(port: number, allowHalfOpen = false): Promise<RawConnection> {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen });
  await once(socket, "connect");
  return new RawConnection(socket);
}

/** Sends one request on a connection of its own and reads the answer to it. */
export async function exchange(port: number, request: Buffer): Promise<RawAnswer | undefined> {
  using connection = await connectRaw(port);
  void connection.send(request);
  return await connection.answer();
}
