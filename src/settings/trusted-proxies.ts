import { BlockList, isIP, isIPv6 } from "node:net";

/** Private networks, by the names that Fastify and Express use. */
const networks: Readonly<Record<string, readonly string[]>> = {
  loopback: ["127.0.0.0/8", "::1/128"],
  linklocal: ["169.254.0.0/16", "fe80::/10"],
  uniquelocal: ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"],
};

/**
 * Parses TRUST_PROXY, which names proxies by address only. A number of hops could not distinguish a proxy from a client
 * that bypasses it, and a trusted address may claim any client and host (GHSA-3m5p-2c4r-xxw2). Undefined for `false`.
 * @throws {RangeError} with what to write instead
 */
export function parseTrustProxy(given: string): BlockList | undefined {
  if (given === "false") return undefined;
  const proxies = new BlockList();
  const wrong: string[] = [];
  for (const entry of given.split(",").flatMap((name) => networks[name.trim()] ?? name.trim())) {
    const [address = "", bits] = entry.split("/", 2);
    const family = isIPv6(address) ? "ipv6" : "ipv4";
    const most = family === "ipv6" ? 128 : 32;
    const length = bits === undefined ? most : /^\d{1,3}$/.test(bits) ? Number(bits) : NaN;
    if (isIP(address) && length <= most) proxies.addSubnet(address, length, family);
    else wrong.push(/^(true|\d+)$/.test(entry) ? `${entry} would trust anybody` : `${entry} is none of these`);
  }
  if (wrong.length === 0) return proxies;
  throw new RangeError(
    "must be false, or the addresses of the proxies: loopback, linklocal, uniquelocal, 192.0.2.1, 192.0.2.0/24, " +
      `separated by commas; ${wrong.join(", ")}`,
  );
}
