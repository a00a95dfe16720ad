import type { FastifyRequest } from "fastify";

/** The last one that was found: most requests have the same. */
let last = { stated: "", origin: "" };

/**
 * The origin under which the client reached the service. Headers of a proxy count only if the proxy is trusted. A
 * connection that is closed no longer tells its port.
 */
export function requestOrigin({ protocol, host, socket }: FastifyRequest): string {
  const stated = `${protocol}://${host}`;
  if (stated === last.stated) return last.origin;
  const url = /^https?$/.test(protocol) ? URL.parse(stated) : null;
  if (url?.host !== host.toLowerCase().replace(/:(80|443)$/, "")) {
    return new URL(`http://localhost:${socket.localPort ?? ""}`).origin;
  }
  last = { stated, origin: url.origin };
  return url.origin;
}

/** The path under which a proxy has the service, without a slash at its end: "" if it has it at the top. */
export function pathOfOrigin(origin: string): string {
  return new URL(origin).pathname.replace(/\/$/, "");
}
