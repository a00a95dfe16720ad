import type { FastifyRequest } from "fastify";
import { isIP, isIPv6, type BlockList } from "node:net";

/** Whether a hop is a proxy whose `X-Forwarded-*` headers are trusted. */
export function isTrustedProxy(proxies: BlockList, hop: string | undefined): boolean {
  const address = bareAddress(hop);
  return address !== undefined && proxies.check(address, isIPv6(address) ? "ipv6" : "ipv4");
}

/**
 * The client's IP address, without port or zone: the one that the nearest trusted proxy states, if it is valid,
 * otherwise the address of the connection, or "unknown" if that is closed already and nobody has asked before.
 */
export function clientAddress({
  ip,
  socket,
}: {
  // Fastify's type says that there always is one.
  readonly ip: FastifyRequest["ip"] | undefined;
  readonly socket: Pick<FastifyRequest["socket"], "remoteAddress">;
}): string {
  return bareAddress(ip) ?? bareAddress(socket.remoteAddress) ?? "unknown";
}

/** Removes the client's port, which some gateways add: `203.0.113.7:50112`, `[2001:db8::7]:50112`. */
function bareAddress(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  if (isIP(text) && !text.includes("%")) return text;
  const [, inBrackets, beforePort] = /^(?:\[([^\]]*)\](?::\d+)?|(\d+\.\d+\.\d+\.\d+):\d+)$/.exec(text) ?? [];
  const address = (inBrackets ?? beforePort ?? text).split("%", 1)[0]!;
  return isIP(address) ? address : undefined;
}
