import type { ServerResponse } from "node:http";
import { pipeline } from "node:stream/promises";
import { ServiceError } from "../errors.ts";

/** The part of an answer that stands in front of its bytes. */
export interface AnswerHead {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | number | string[] | undefined>>;
}

/**
 * Sends an answer as fast as the client takes it. The first bytes are waited for before the head is written, so that a
 * source that fails at once can still be answered with an error; one that fails later ends the connection, so that a cut
 * answer does not look whole. The source's signal is aborted as soon as the client goes away.
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
  const onClose = (): void => abort.abort(clientGone);
  response.once("close", onClose);
  response.setTimeout(stallSeconds * 1000, () => response.destroy());
  const bytes = source(abort.signal);
  let failure: unknown;
  async function* body(first: IteratorResult<Buffer, void>): AsyncGenerator<Buffer, void, undefined> {
    try {
      if (first.done === true) return;
      yield first.value;
      yield* bytes;
    } catch (error) {
      failure = error;
      throw error;
    }
  }
  try {
    if (response.closed) throw clientGone;
    const first = await bytes.next();
    response.writeHead(head.status, head.headers);
    await pipeline(body(first), response).catch(() => {
      throw failure ?? clientGone;
    });
  } finally {
    response.off("close", onClose);
    response.setTimeout(0);
    await bytes.return();
  }
}
