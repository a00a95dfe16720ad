import type { FastifyReply, FastifyRequest } from "fastify";
import { ServiceError } from "../errors/errors.ts";
import { answerError } from "./answer-errors.ts";
import type { UnvouchedBytes } from "../memory/unvouched-bytes.ts";

/** What a piece of a body costs beside its bytes: each is a buffer of its own until the body is whole. */
const pieceBytes = 1024;

/** Limits of a body that is read as a whole. */
export interface BodyLimits {
  readonly unvouched: UnvouchedBytes;
  /** How long all of it may take. */
  readonly patienceMs: number;
}

/**
 * Watches a body that Fastify gathers. To be called when that has begun to listen, and before the first bytes come.
 * One that is late is answered REQUEST_TIMEOUT, and one that there is no memory for BUSY.
 */
export function watchBody(request: FastifyRequest, reply: FastifyReply, { unvouched, patienceMs }: BodyLimits): void {
  const { raw } = request;
  if (raw.listenerCount("data") === 0) return;
  const refuse = (failure: ServiceError): void => {
    // What has arrived hangs on them.
    for (const event of ["data", "end", "error"]) raw.removeAllListeners(event);
    raw.on("error", () => {});
    if (!reply.sent) void answerError(request, reply, failure);
  };
  const held = unvouched.hold(refuse);
  const timer = setTimeout(
    () => refuse(new ServiceError("REQUEST_TIMEOUT", "The request did not arrive in time. Send it again.")),
    patienceMs,
  );
  raw.on("data", (piece: Buffer) => held.add(piece.length + pieceBytes));
  raw.once("end", () => {
    clearTimeout(timer);
    held.arrived();
  });
  raw.once("close", () => clearTimeout(timer));
  reply.raw.once("close", () => {
    clearTimeout(timer);
    held.release();
  });
}
