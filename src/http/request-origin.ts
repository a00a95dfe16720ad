import type { FastifyRequest } from "fastify";

/**
 * The origin under which the client reached the service. Headers of a proxy count only if the proxy is trusted. A
 * connection that is closed no longer tells its port.
 */
export function requestOrigin({ protocol, host, socket }: FastifyRequest): string {
  const url = /^https?$/.test(protocol) ? URL.parse(`${protocol}://${host}`) : null;
  return url?.host === host.toLowerCase().replace(/:(80|443)$/, "")
    ? url.origin
    : new URL(`http://localhost:${socket.localPort ?? ""}`).origin;
}

/** The path under which a proxy has the service, without a slash at its end: "" if it has it at the top. */
export function pathOfOrigin(origin: string): string {
  return new URL(origin).pathname.replace(/\/$/, "");
}
