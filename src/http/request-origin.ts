import type { FastifyRequest } from "fastify";

/** The origin under which the client reached the service. Headers of a proxy count only if the proxy is trusted. */
export function requestOrigin({ protocol, host, socket }: FastifyRequest): string {
  const origin = `${protocol}://${host}`;
  return /^https?$/.test(protocol) &&
    URL.canParse(origin) &&
    new URL(origin).host === host.toLowerCase().replace(/:(80|443)$/, "")
    ? new URL(origin).origin
    : `http://localhost:${socket.localPort}`;
}
