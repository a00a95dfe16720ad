/** A name that the service answers under: `music.example.com`, `*.example.com`, `[::1]`, each with or without a port. */
const pattern = /^(\*\.)?([a-z\d_.-]+|\[[\da-f:.]+\])(:\d{1,5})?$/;

/** The entry of ALLOWED_HOSTS as {@link isAllowedHost} takes it; undefined if it is none. */
export function parseAllowedHost(given: string): string | undefined {
  const host = given.toLowerCase();
  return pattern.test(host) ? host : undefined;
}

/**
 * Whether a request's host, with or without its port, is one of the allowed: an entry without a port allows every port,
 * and `*.example.com` allows all names below `example.com`.
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
