import type { SqlEntityManager } from "@mikro-orm/postgresql";
import type { Kysely } from "kysely";
import type { Caller } from "../caller/caller.ts";
import { statement } from "../database/query-builder.ts";
import { ServiceError } from "../errors/errors.ts";
import { cleanText } from "../input/plain-text.ts";
import { standing, userDisabled } from "./authenticate-user.ts";
import { maxNameLength } from "./create-user.ts";
import type { Identity, IdentityProvider } from "./identity-provider.ts";
import type { Registration } from "./registration.ts";
import { firstTokenScopes, type UserTables } from "./user.entity.ts";

const findUser = statement((db: Kysely<UserTables>, { issuer, subject }: { issuer: string; subject: string }) =>
  db
    .selectFrom("User")
    .select(["id", "name", "createdAt", "playKey"])
    .select(standing())
    .where("issuer", "=", issuer)
    .where("subject", "=", subject),
);

/** Another request that creates the same subject at the same time wins. */
const insertUser = statement((db: Kysely<UserTables>, user: { name: string; issuer: string; subject: string }) =>
  db
    .insertInto("User")
    .values({ name: user.name, issuer: user.issuer, subject: user.subject })
    .onConflict((conflict) => conflict.columns(["issuer", "subject"]).doNothing()),
);

/** Whether a token has the form of a JWT (RFC 7519 section 3); the tokens of the service do not. */
export function isJwt(token: string): boolean {
  return /^[\w-]+\.[\w-]+\.[\w-]+$/.test(token);
}

/** Finds the users of an identity provider's tokens. */
export class Subjects {
  readonly #em: SqlEntityManager;
  readonly #provider: IdentityProvider;
  readonly #registration: Registration;

  constructor(em: SqlEntityManager, provider: IdentityProvider, registration: Registration) {
    this.#em = em;
    this.#provider = provider;
    this.#registration = registration;
  }

  /** Waits, at most some seconds, for what verifying a token needs from the issuer. */
  async prepare(token: string): Promise<void> {
    if (isJwt(token)) await this.#provider.prepare(token);
  }

  /**
   * Finds the user of a JWT, who may do everything until it expires.
   * @param newFrom the client's address if an unknown subject may become a user; undefined if not
   * @throws {ServiceError} UNAUTHENTICATED, BUSY or USER_DISABLED, and for a new user REGISTRATION_CLOSED or
   * RATE_LIMITED
   */
  async authenticate(token: string, newFrom: string | undefined): Promise<Caller> {
    const identity = await this.#provider.verify(token);
    const user = (await this.#find(identity)) ?? (await this.#create(identity, newFrom));
    if (!user) throw new ServiceError("UNAUTHENTICATED", "The token's subject is not a user of this service.");
    const { isDisabled, ...caller } = user;
    if (isDisabled) throw userDisabled();
    return {
      ...caller,
      tokenId: null,
      scopes: firstTokenScopes,
      expiresAt: identity.expiresAt,
    };
  }

  async #find({ issuer, subject }: Identity) {
    return (await findUser(this.#em, { issuer, subject }))[0];
  }

  async #create(identity: Identity, newFrom: string | undefined) {
    if (newFrom === undefined) return undefined;
    await this.#registration.admitSubject(newFrom);
    const { issuer, subject } = identity;
    const name = cleanText(identity.name ?? "", maxNameLength) || cleanText(subject, maxNameLength) || "User";
    await insertUser(this.#em, { name, issuer, subject });
    return await this.#find(identity);
  }
}
