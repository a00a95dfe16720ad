import type { FastifyReply, FastifyRequest } from "fastify";
import { ServiceError } from "../errors/errors.ts";
import { answerError } from "./answer-errors.ts";
import { smallBytes, type HeldBytes, type UnvouchedBytes } from "../memory/unvouched-bytes.ts";

/** Overhead of each piece of a body, in bytes: it has its own buffer until the body is complete. */
const pieceBytes = 1024;

/** Limits of a body that is read completely before it is used. */
interface BodyLimits {
  readonly unvouched: UnvouchedBytes;
  /** Maximum time for the whole body. */
  readonly patienceMs: number;
}

const heldBodies = new WeakMap<FastifyRequest, HeldBytes>();

/**
 * Watches a body that Fastify collects. Call it when Fastify has begun to listen and before the first bytes arrive. A
 * body that is late fails with REQUEST_TIMEOUT; one for which there is no memory fails with BUSY.
 */
export function watchBody(request: FastifyRequest, reply: FastifyReply, { unvouched, patienceMs }: BodyLimits): void {
  const { raw } = request;
  if (raw.listenerCount("data") === 0) return;
  const refuse = (failure: ServiceError): void => {
    // They hold on to the bytes that have arrived.
    for (const event of ["data", "end", "error"]) raw.removeAllListeners(event);
    raw.on("error", () => {});
    if (!reply.sent) void answerError(request, reply, failure);
  };
  const held = unvouched.hold(refuse);
  heldBodies.set(request, held);
  const refuseLate = (): void =>
    refuse(new ServiceError("REQUEST_TIMEOUT", "The request did not arrive in time. Send it again."));
  const timer = setTimeout(() => {
    // After a busy turn of the event loop, the rest may be waiting. It is read before this is called.
    const refusal = setImmediate(refuseLate);
    raw.once("end", () => clearImmediate(refusal));
  }, patienceMs);
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

/**
 * Lets go of a body that has been read.
 * @param kept what is left of it: it goes on counting
 */
export function keepOfBody(request: FastifyRequest, kept: object): void {
  request.body = undefined;
  const held = heldBodies.get(request);
  if (held && held.bytes > smallBytes) held.add(JSON.stringify(kept).length - held.bytes);
}
