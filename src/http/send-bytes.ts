import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { ServiceError } from "../errors.ts";

/** The part of an answer that stands in front of its bytes. */
export interface AnswerHead {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | number | string[] | undefined>>;
}

/**
 * Sends an answer as fast as the client takes it. The first bytes are waited for before the head is written, so that a
 * source that fails at once can still be answered with an error; one that fails later ends the connection, so that a cut
 * answer does not look whole. The source's signal is aborted as soon as the client goes away. It is asked for its next
 * bytes when the system has taken all of the last ones, whose memory it may then use again.
 * @param stallSeconds how long a client may take nothing before it counts as gone
 * @throws what the source throws
 * @throws {ServiceError} CLIENT_CLOSED_REQUEST when the client went away
 */
export async function sendBytes(
  response: ServerResponse,
  head: AnswerHead,
  source: (signal: AbortSignal) => AsyncGenerator<Buffer, void, undefined>,
  stallSeconds: number,
): Promise<void> {
  const clientGone = new ServiceError("CLIENT_CLOSED_REQUEST", "The client went away.");
  const abort = new AbortController();
  const gone = Promise.withResolvers<never>();
  gone.promise.catch(() => {}); // told to whoever writes
  const onClose = (): void => {
    abort.abort(clientGone);
    gone.reject(clientGone);
  };
  response.once("close", onClose);
  response.setTimeout(stallSeconds * 1000, () => response.destroy());
  const bytes = source(abort.signal);
  try {
    if (response.closed) throw clientGone;
    // A pipelined request is handled at once, and its answer waits for those before it: nothing is read for it until then.
    if (response.socket === null) await Promise.race([once(response, "socket"), gone.promise]);
    let next = await bytes.next();
    response.writeHead(head.status, head.headers);
    while (next.done !== true) {
      await Promise.race([written(response, next.value), gone.promise]);
      if (response.destroyed) throw clientGone; // what is not sent any more counts as written, too
      next = await bytes.next();
    }
    response.end();
  } catch (error) {
    if (response.headersSent) response.destroy();
    throw error;
  } finally {
    response.off("close", onClose);
    response.setTimeout(0);
    await bytes.return();
  }
}

/** Writes bytes and waits until the system has taken them. A failure is that of the connection, which closes with it. */
async function written(response: ServerResponse, bytes: Buffer): Promise<void> {
  await new Promise<void>((resolve) => response.write(bytes, (error) => !error && resolve()));
}
