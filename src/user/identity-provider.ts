import {
  createRemoteJWKSet,
  customFetch,
  decodeProtectedHeader,
  errors,
  jwtVerify,
  type JWTPayload,
  type RemoteJWKSet,
} from "jose";
import { ServiceError, tryAgainLater } from "../errors/errors.ts";
import { isSecure } from "../settings/secure-url.ts";

/** Who a token of the identity provider speaks for. */
export interface Identity {
  readonly issuer: string;
  /** Never reassigned by the issuer (OpenID Connect Core 1.0 section 2). */
  readonly subject: string;
  /** What the token calls the user; undefined if it has no name. */
  readonly name: string | undefined;
  readonly expiresAt: Date;
}

/** Where tokens come from, and for whom they must be meant. */
interface IdentityProviderOptions {
  readonly issuer: string;
  readonly audience: string;
}

/** Signatures with a public key only: a shared secret, or none, would let anyone who reads the keys sign. */
const algorithms = [
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
  "Ed25519",
];

/** Clocks of the issuer and the service may differ by this. */
const clockSkewSeconds = 30;
/** The end of the year 9999: later ones are no dates for PostgreSQL or JSON. */
const latestSeconds = 253_402_300_799;
/** Maximum length of a subject (OpenID Connect Core 1.0 section 2), in characters. */
const maxSubjectLength = 255;

const minuteMs = 60_000;
/** Keys older than this are fetched again, beside the requests that use them. */
const refreshAfterMs = 10 * minuteMs;
/** Keys older than this are not used any more: perhaps the issuer has withdrawn them. */
const maxKeyAgeMs = 24 * 60 * minuteMs;
/** An unknown key is looked for at most this often, and an issuer that failed is not asked again before. */
const cooldownMs = 30_000;
const fetchTimeoutMs = 5000;
/** Maximum size of a document of the issuer, in bytes. */
const maxDocumentBytes = 256 * 1024;

/**
 * Verifies the tokens of an OpenID Connect issuer. Its keys are found by discovery, cached, and fetched again when they
 * get old or a token names an unknown one, however many requests wait: once, and for five seconds at most.
 */
export class IdentityProvider {
  readonly #options: IdentityProviderOptions;
  readonly #keys: RemoteJWKSet;
  #fetchedAt = 0;
  #failedAt = -Infinity;

  constructor(options: IdentityProviderOptions) {
    this.#options = options;
    this.#keys = createRemoteJWKSet(discoveryUrl(options.issuer), {
      cacheMaxAge: maxKeyAgeMs,
      cooldownDuration: cooldownMs,
      timeoutDuration: fetchTimeoutMs,
      [customFetch]: async (url, { signal }) => await this.#fetchKeys(url, signal),
    });
  }

  /** Waits for the key of a JWT, if it has to be fetched. Whether there is one, {@link verify} says. */
  async prepare(token: string): Promise<void> {
    try {
      await this.#keys(decodeProtectedHeader(token));
    } catch {
      // Said by the verification.
    }
  }

  /**
   * Verifies a JWT: signature, issuer, audience and times.
   * @throws {ServiceError} UNAUTHENTICATED, or BUSY if the issuer's keys are not known and cannot be fetched
   */
  async verify(token: string): Promise<Identity> {
    const { issuer, audience } = this.#options;
    try {
      const { payload } = await jwtVerify(token, this.#keys, {
        issuer,
        audience,
        algorithms,
        clockTolerance: clockSkewSeconds,
        requiredClaims: ["exp", "sub"],
      });
      return identityOf(payload, issuer);
    } catch (error) {
      if (error instanceof IssuerFailure) throw issuerUnavailable(error);
      if (!(error instanceof errors.JOSEError)) throw error;
      throw notValid(error);
    } finally {
      this.#refresh();
    }
  }

  /** Fetches old keys again, without anybody waiting. If that fails, the old ones stay. */
  #refresh(): void {
    const isOld = this.#fetchedAt !== 0 && Date.now() - this.#fetchedAt > refreshAfterMs;
    if (isOld && !this.#keys.reloading) this.#keys.reload().catch(() => {});
  }

  async #fetchKeys(url: string, signal: AbortSignal): Promise<Response> {
    if (Date.now() - this.#failedAt < cooldownMs) throw new IssuerFailure("The issuer has failed a moment ago.");
    try {
      const discovered = await fetchDocument(new URL(url), signal);
      if (discovered["issuer"] !== this.#options.issuer) {
        throw new IssuerFailure("The issuer's configuration names another issuer.");
      }
      const keysUrl = URL.parse(String(discovered["jwks_uri"]));
      if (!keysUrl || !isSecure(keysUrl)) throw new IssuerFailure("The issuer's configuration has no https jwks_uri.");
      const keys = await fetchDocument(keysUrl, signal);
      if (!Array.isArray(keys["keys"])) throw new IssuerFailure("The issuer's jwks_uri has no set of keys.");
      this.#fetchedAt = Date.now();
      return Response.json(keys);
    } catch (error) {
      this.#failedAt = Date.now();
      throw error instanceof IssuerFailure
        ? error
        : new IssuerFailure("The issuer cannot be reached.", { cause: error });
    }
  }
}

/** The keys of the issuer cannot be had. */
class IssuerFailure extends Error {
  override readonly name = "IssuerFailure";
}

/** OpenID Connect Discovery 1.0 section 4. */
function discoveryUrl(issuer: string): URL {
  return new URL(`${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`);
}

async function fetchDocument(url: URL, signal: AbortSignal): Promise<Record<string, unknown>> {
  const response = await fetch(url, { signal, redirect: "error", headers: { accept: "application/json" } });
  if (!response.ok) {
    await response.body?.cancel();
    throw new IssuerFailure(`The issuer answered with the status ${response.status}.`);
  }
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of response.body ?? []) {
    bytes += piece.length;
    if (bytes > maxDocumentBytes)
      throw new IssuerFailure(`The issuer's document has more than ${maxDocumentBytes} bytes.`);
    pieces.push(piece);
  }
  const document: unknown = JSON.parse(Buffer.concat(pieces).toString());
  if (typeof document !== "object" || document === null)
    throw new IssuerFailure("The issuer's document is not an object.");
  return { ...document };
}

function identityOf({ sub = "", exp = 0, name, preferred_username: userName }: JWTPayload, issuer: string): Identity {
  // The types say what an issuer should send. It may be a number.
  const isText = typeof sub === "string" && sub.isWellFormed() && !sub.includes("\0");
  if (!isText || sub === "" || sub.length > maxSubjectLength) {
    throw new ServiceError(
      "UNAUTHENTICATED",
      `The token's subject must be a text of 1 to ${maxSubjectLength} characters.`,
    );
  }
  const called = [name, userName].find((text) => typeof text === "string" && text.trim() !== "");
  return {
    issuer,
    subject: sub,
    name: typeof called === "string" ? called : undefined,
    expiresAt: new Date(Math.min(exp, latestSeconds) * 1000),
  };
}

function notValid(error: errors.JOSEError): ServiceError {
  const why =
    error instanceof errors.JWTExpired
      ? "it has expired"
      : error instanceof errors.JWTClaimValidationFailed
        ? `its claim "${error.claim}" is not the expected one`
        : "its signature cannot be verified with the keys of the issuer";
  const message = `The token of the identity provider is not valid: ${why}. Get a new one from there.`;
  return new ServiceError("UNAUTHENTICATED", message, {}, { cause: error });
}

function issuerUnavailable(cause: Error): ServiceError {
  const why = "The keys of the identity provider cannot be fetched, so its tokens cannot be checked";
  return tryAgainLater("BUSY", why, cooldownMs / 1000, { cause });
}
