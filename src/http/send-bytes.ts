import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { ServiceError } from "../errors/errors.ts";
import type { WaitingAnswers } from "./waiting-answers.ts";

/** Status and headers of a response. */
interface AnswerHead {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | number | string[] | undefined>>;
}

/**
 * Yields the bytes of a response from offset `from` on, until the signal is aborted. For a slow client, pieces should
 * have at most {@link slowPieceBytes}. A piece stays unchanged until the next one is requested, even if the generator
 * is told to return.
 */
export type ByteSource = (
  signal: AbortSignal,
  place: { readonly from: number; readonly isSlow: boolean },
) => AsyncGenerator<Buffer, void, undefined>;

/** Size of pieces for a slow client. It holds twice as much memory, because one piece is read ahead. */
export const slowPieceBytes = 64 * 1024;

/**
 * How long a connection stays open after the system has taken the response, because the client may not have received
 * it.
 */
const lingerMs = 900_000;

/**
 * Sends a response as fast as the client reads it.
 * - The head is written after the first bytes are available, so that a source that fails at once leads to an error
 *   response. If the source fails later, the connection is closed, so that a truncated response does not look complete.
 * - The source's signal is aborted as soon as the client disconnects.
 * - The source is asked for the next piece when the system has taken all of the last one, whose memory can then be
 *   reused.
 * - While the client reads nothing, the response waits with one piece in memory; later pieces are small.
 * - Several megabytes may wait in the system's own buffers. Therefore the connection stays open for a quarter of an
 *   hour afterwards: after closing it, the system would send the rest for only about three minutes.
 *
 * @param address the client address for which waiting responses are counted
 * @throws what the source throws
 * @throws {ServiceError} CLIENT_CLOSED_REQUEST if the client disconnected; BUSY or SHUTTING_DOWN if the response waited
 * for its client and had to end
 */
export async function sendBytes(
  response: ServerResponse,
  head: AnswerHead,
  source: ByteSource,
  { waiting, address }: { waiting: WaitingAnswers; address: string },
): Promise<void> {
  const clientGone = new ServiceError("CLIENT_CLOSED_REQUEST", "The client went away.");
  const abort = new AbortController();
  const gone = Promise.withResolvers<never>();
  gone.promise.catch(() => {}); // the writer handles it
  const end = (reason: ServiceError): void => {
    abort.abort(reason);
    gone.reject(reason);
    response.destroy();
  };
  const onClose = (): void => end(clientGone);
  // Reset the connection: otherwise the system would keep the rest of the response for minutes.
  const endWaiting = (reason: ServiceError): void => {
    response.socket?.resetAndDestroy();
    end(reason);
  };
  response.once("close", onClose);
  let sentBytes = 0;
  let isSlow = false;
  let bytes = source(abort.signal, { from: 0, isSlow });
  try {
    if (response.closed) throw clientGone;
    // The response to a pipelined request waits for the earlier ones. Nothing is read for it until then.
    if (response.socket === null) await Promise.race([once(response, "socket"), gone.promise]);
    let next = await bytes.next();
    response.writeHead(head.status, head.headers);
    while (next.done !== true) {
      const piece = next.value;
      const taken = Promise.race([written(response, piece), gone.promise]);
      sentBytes += piece.length;
      if (!(await settlesWithin(taken, waiting.patienceMs))) {
        const becomesSlow = !isSlow;
        if (becomesSlow) await bytes.return(); // discards what it has read ahead
        {
          using _place = waiting.wait(address, piece.buffer.byteLength + (isSlow ? slowPieceBytes : 0), endWaiting);
          await taken;
        }
        isSlow = true;
        if (becomesSlow) bytes = source(abort.signal, { from: sentBytes, isSlow });
      }
      if (response.destroyed) throw clientGone; // bytes that are no longer sent also count as written
      next = await bytes.next();
    }
    keepOpen(response);
    response.end();
  } catch (error) {
    if (response.headersSent) response.destroy();
    throw error;
  } finally {
    response.off("close", onClose);
    await bytes.return();
  }
}

/** Writes bytes and waits until the system has taken them. It fails only if the connection fails, which closes then. */
async function written(response: ServerResponse, bytes: Buffer): Promise<void> {
  await new Promise<void>((resolve) => response.write(bytes, (error) => !error && resolve()));
}

/**
 * Keeps the connection open while the client reads the end of a response. node:http would close it at once, or after
 * its idle time.
 */
function keepOpen(response: ServerResponse): void {
  const { socket } = response;
  if (socket === null) return;
  // Run before and after node:http's own listener.
  response.prependOnceListener("finish", () => (socket.destroySoon = () => socket.end()));
  response.once("finish", () => {
    Reflect.deleteProperty(socket, "destroySoon");
    socket.setTimeout(lingerMs);
  });
}

async function settlesWithin(promise: Promise<void>, ms: number): Promise<boolean> {
  const late = Promise.withResolvers<false>();
  const timer = setTimeout(() => late.resolve(false), ms);
  try {
    return await Promise.race([promise.then(() => true), late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
