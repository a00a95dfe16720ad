import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { ServiceError } from "../errors/errors.ts";
import type { WaitingAnswers } from "./waiting-answers.ts";

/** The part of an answer that stands in front of its bytes. */
export interface AnswerHead {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | number | string[] | undefined>>;
}

/**
 * The bytes of an answer, without the first `from` of them, until the signal aborts. For a client that is slow it should
 * yield pieces of {@link slowPieceBytes} at most. A piece stays what it is until the next one is asked for, also when the
 * generator is told to return.
 */
export type ByteSource = (
  signal: AbortSignal,
  place: { readonly from: number; readonly isSlow: boolean },
) => AsyncGenerator<Buffer, void, undefined>;

/** Pieces for a slow client: with the one that is read ahead, what it holds of memory is twice as much. */
export const slowPieceBytes = 64 * 1024;

/** How long a connection stays open after an answer that the system has taken, but maybe not the client. */
const lingerMs = 900_000;

/**
 * Sends an answer as fast as the client takes it. The first bytes are waited for before the head is written, so that a
 * source that fails at once can still be answered with an error; one that fails later ends the connection, so that a cut
 * answer does not look whole. The source's signal is aborted as soon as the client goes away. It is asked for its next
 * bytes when the system has taken all of the last ones, whose memory it may then use again. While a client takes nothing
 * the answer waits, with one piece in memory; from then on its pieces are small ones. Several megabytes may wait in the
 * system itself, out of sight: so the connection stays open for a quarter of an hour afterwards, as the system sends what
 * is left in a closed one for some three minutes only.
 * @param address who answers that wait are counted for
 * @throws what the source throws
 * @throws {ServiceError} CLIENT_CLOSED_REQUEST when the client went away; BUSY and SHUTTING_DOWN when the answer waited
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
  gone.promise.catch(() => {}); // told to whoever writes
  const end = (reason: ServiceError): void => {
    abort.abort(reason);
    gone.reject(reason);
    response.destroy();
  };
  const onClose = (): void => end(clientGone);
  // A reset, as the system would keep for minutes what it has of the answer.
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
    // A pipelined request is handled at once, and its answer waits for those before it: nothing is read for it until then.
    if (response.socket === null) await Promise.race([once(response, "socket"), gone.promise]);
    let next = await bytes.next();
    response.writeHead(head.status, head.headers);
    while (next.done !== true) {
      const piece = next.value;
      const taken = Promise.race([written(response, piece), gone.promise]);
      sentBytes += piece.length;
      if (!(await settlesWithin(taken, waiting.patienceMs))) {
        const becomesSlow = !isSlow;
        if (becomesSlow) await bytes.return(); // what it has read ahead goes
        {
          using _place = waiting.wait(address, piece.buffer.byteLength + (isSlow ? slowPieceBytes : 0), endWaiting);
          await taken;
        }
        isSlow = true;
        if (becomesSlow) bytes = source(abort.signal, { from: sentBytes, isSlow });
      }
      if (response.destroyed) throw clientGone; // what is not sent any more counts as written, too
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

/** Writes bytes and waits until the system has taken them. A failure is that of the connection, which closes with it. */
async function written(response: ServerResponse, bytes: Buffer): Promise<void> {
  await new Promise<void>((resolve) => response.write(bytes, (error) => !error && resolve()));
}

/** Lets the client take the end of an answer in peace: node:http would close the connection at once, or after its idle time. */
function keepOpen(response: ServerResponse): void {
  const { socket } = response;
  if (socket === null) return;
  // Before and after node:http's own listener.
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
