import { exportJWK, generateKeyPair, SignJWT, type CryptoKey, type JWK } from "jose";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";

/** For whom the tokens are meant. */
export const audience = "web-user-music";

export const inSeconds = (seconds: number): number => Math.floor(Date.now() / 1000) + seconds;

/** An issuer on this machine: discovery, keys that can be replaced, and tokens. */
export class Issuer {
  readonly #server: Server;
  #keys: JWK[] = [];
  readonly asked: string[] = [];
  /** What its configuration says instead. */
  configuration: Record<string, unknown> = {};
  isDown = false;
  /** What its answers wait for. */
  held: Promise<unknown> = Promise.resolve();
  url = "";
  signingKey!: { readonly key: CryptoKey; readonly alg: string; readonly kid: string };

  constructor() {
    this.#server = createServer(async (request, response) => {
      this.asked.push(request.url!);
      await this.held;
      if (this.isDown) return void response.writeHead(500).end();
      const documents: Record<string, unknown> = {
        "/.well-known/openid-configuration": { issuer: this.url, jwks_uri: `${this.url}/keys`, ...this.configuration },
        "/keys": { keys: this.#keys },
      };
      return void response
        .setHeader("content-type", "application/json")
        .end(JSON.stringify(documents[request.url!] ?? {}));
    });
  }

  async start(): Promise<void> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
    await this.rotate("RS256");
  }

  /** Signs with another key from now on. */
  async rotate(alg: string, kid: string = crypto.randomUUID()): Promise<void> {
    const { privateKey, publicKey } = await generateKeyPair(alg);
    this.#keys = [...this.#keys.slice(-1), { ...(await exportJWK(publicKey)), kid, alg, use: "sig" }];
    this.signingKey = { key: privateKey, alg, kid };
  }

  /** The public keys as an attacker knows them. */
  get keys(): readonly JWK[] {
    return this.#keys;
  }

  async token(claims: Record<string, unknown> = {}, signed = this.signingKey): Promise<string> {
    const { key, alg, kid } = signed;
    return await new SignJWT({ iss: this.url, aud: audience, sub: "ann", exp: inSeconds(300), ...claims })
      .setProtectedHeader({ alg, kid })
      .sign(key);
  }

  async stop(): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
  }
}
