import { parseAllowedHost } from "../addresses/allowed-hosts.ts";
import { parseCorsOrigin } from "../addresses/cors-origins.ts";
import { isSecure } from "./secure-url.ts";

/**
 * Parses PUBLIC_URL: the URL without a final slash.
 * @throws {RangeError} with what it must be, as all parsers of this file
 */
export function parsePublicUrl(given: string): string {
  const url = URL.parse(given);
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new RangeError("must be a URL that starts with http:// or https://");
  }
  if (url.search || url.hash) throw new RangeError("must not have a query or a fragment");
  return url.href.replace(/\/+$/, "");
}

/** Parses S3_ENDPOINT: the URL without a final slash. */
export function parseEndpoint(given: string): string {
  const url = URL.parse(given);
  if (url === null || !/^https?:$/.test(url.protocol) || url.username || url.search || url.hash) {
    throw new RangeError("must be a URL that starts with http:// or https://, without a user, a query or a fragment");
  }
  return url.href.replace(/\/+$/, "");
}

/** Parses S3_BUCKET. */
export function parseBucket(given: string): string {
  if (/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(given)) return given;
  throw new RangeError("must be the name of a bucket: 3 to 63 lower-case letters, digits, dots and hyphens");
}

/** Parses OIDC_ISSUER: the text itself, because tokens must name exactly this issuer. */
export function parseIssuer(given: string): string {
  const url = URL.parse(given);
  if (!url || !isSecure(url))
    throw new RangeError("must be a URL that starts with https://, or http:// on this machine");
  if (url.search || url.hash) throw new RangeError("must not have a query or a fragment");
  return given;
}

/** Parses ALLOWED_HOSTS. */
export function parseAllowedHosts(given: string): readonly string[] {
  const hosts = given.split(",").map((entry) => parseAllowedHost(entry.trim()));
  if (hosts.every((host) => host !== undefined)) return hosts;
  throw new RangeError("must list names such as music.example.com or *.example.com, separated by commas");
}

/** Parses CORS_ORIGINS. The error names every entry that is wrong. */
export function parseCorsOrigins(given: string): readonly string[] {
  const wrong: string[] = [];
  const origins = given
    .split(/[\s,]+/)
    .filter((entry) => entry !== "")
    .map((entry) => {
      try {
        return parseCorsOrigin(entry);
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        wrong.push(error.message);
        return entry;
      }
    });
  if (wrong.length === 0) return origins;
  throw new RangeError(
    "must list origins such as https://app.example.com, https://*.example.com or capacitor://localhost, " +
      `separated by commas, or be *: ${wrong.join(", ")}`,
  );
}

/** Parses a value that is sent as a header. */
export function parseHeaderValue(given: string): string {
  if (/[^\t\x20-\x7e]/.test(given)) throw new RangeError("must be plain ASCII text");
  return given;
}
