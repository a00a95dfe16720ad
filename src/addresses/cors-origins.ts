/** Entries that are not URLs: every origin, and the origins of files and sandboxed frames. */
const words = ["*", "null", "file://"];

/**
 * Origins of pages on this machine. Only a program on it can serve them; `*.localhost` never leaves it either (RFC 6761
 * section 6.3).
 */
const loopback =
  /^https?:\/\/(?:localhost|[^/:@]+\.localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|0\.0\.0\.0|\[::1\])(?::\d{1,5})?$/;

/**
 * Parses an entry of CORS_ORIGINS for {@link isAllowedOrigin}, in the form that browsers send: lower case, without a
 * final slash and without the default port.
 * @throws {RangeError} with what to write instead
 */
export function parseCorsOrigin(given: string): string {
  const entry = given.toLowerCase();
  if (words.includes(entry)) return entry;
  const [, scheme = "", host = "", rest = ""] = /^([a-z][a-z\d+.-]*):\/\/([^/?#]*)(.*)$/.exec(entry) ?? [];
  if (/["'`]/.test(entry)) throw new RangeError(`${given} has quotation marks: leave them out`);
  if (scheme === "") {
    const [name = ""] = /[^/]+/.exec(entry) ?? [];
    const usual = isLocalOrigin(`http://${name}`) ? "http" : "https";
    throw new RangeError(`${given} has no scheme: write ${usual}://${name}`);
  }
  if (rest !== "" && rest !== "/") throw new RangeError(`${given} has a path: write ${scheme}://${host}`);
  if (host.includes("@"))
    throw new RangeError(`${given} has a user name: write ${scheme}://${host.replace(/.*@/, "")}`);
  const [, wildcard = "", name = ""] = /^(\*\.)?(.*)$/.exec(host) ?? [];
  if (name.includes("*")) {
    throw new RangeError(
      `${given} has its * in the wrong place: write *, or *. before a name as in https://*.example.com`,
    );
  }
  if (/^https?$/.test(scheme) && URL.canParse(`${scheme}://${name}`)) {
    return `${scheme}://${wildcard}${new URL(`${scheme}://${name}`).host}`;
  }
  // Schemes of apps and extensions, whose hosts are arbitrary names.
  if (!/^https?$/.test(scheme) && /^[a-z\d._-]+(:\d{1,5})?$/.test(name)) return `${scheme}://${wildcard}${name}`;
  throw new RangeError(`${given} is not an origin: write one such as https://app.example.com or http://192.0.2.1:3000`);
}

/** Whether a request's `Origin` is allowed. `https://*.example.com` allows all subdomains of `example.com`. */
export function isAllowedOrigin(allowed: readonly string[], origin: string): boolean {
  const given = origin.toLowerCase();
  return allowed.some((entry) => {
    if (entry === "*" || entry === given) return true;
    const [start = "", end] = entry.split("*");
    if (end === undefined || !given.startsWith(start) || !given.endsWith(end)) return false;
    return /^[^/:@]+$/.test(given.slice(start.length, -end.length));
  });
}

/**
 * Whether the origin is that of a page on the same machine: from a development server, or a file. Sandboxed frames of
 * any site also send `null`, so this is only for development.
 */
export function isLocalOrigin(origin: string): boolean {
  return origin === "null" || origin === "file://" || loopback.test(origin);
}
