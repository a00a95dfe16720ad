/** A host name of the service: `music.example.com`, `*.example.com`, `[::1]`, with or without a port. */
const pattern = /^(\*\.)?([a-z\d_.-]+|\[[\da-f:.]+\])(:\d{1,5})?$/;

/** Parses an entry of ALLOWED_HOSTS for {@link isAllowedHost}; undefined if it is not valid. */
export function parseAllowedHost(given: string): string | undefined {
  const host = given.toLowerCase();
  return pattern.test(host) ? host : undefined;
}

/**
 * Whether a request's host, with or without a port, is allowed. An entry without a port allows every port;
 * `*.example.com` allows all subdomains of `example.com`.
 */
export function isAllowedHost(allowed: readonly string[], given: string): boolean {
  const host = given.toLowerCase();
  const name = host.replace(/:\d*$/, "").replace(/\.$/, "");
  return allowed.some((entry) => {
    const hasPort = /:\d+$/.test(entry);
    const candidate = hasPort ? host : name;
    return entry.startsWith("*.") ? candidate.endsWith(entry.slice(1)) : candidate === entry;
  });
}
