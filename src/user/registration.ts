import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { ServiceError } from "../errors/errors.ts";
import type { AddressLimiter, RateLimiter } from "../limits/rate-limiter.ts";
import { chargeOfNewcomer, PrepaidAllowances, rowBytes, type WriteAllowances } from "../limits/write-allowance.ts";
import { checkedUserName, createUser, type NewUser } from "./create-user.ts";
import type { RegistrationMode } from "../settings/registration-mode.ts";

interface RegistrationDependencies {
  readonly em: SqlEntityManager;
  readonly mode: RegistrationMode;
  readonly newUsersFromAddress: AddressLimiter;
  /** Limits new users from all addresses, except invited ones. */
  readonly newUsers: RateLimiter;
  readonly allowances: WriteAllowances;
}

/** Registers users, as far as the operator allows it. */
export class Registration {
  readonly #dependencies: RegistrationDependencies;
  readonly #prepaid: PrepaidAllowances;

  constructor(dependencies: RegistrationDependencies) {
    this.#dependencies = dependencies;
    this.#prepaid = new PrepaidAllowances(dependencies.em);
  }

  /**
   * Creates a user for a request from this address.
   * @param invitation the code of an invitation; an invited user never counts as new, even if registration is open
   * @throws {ServiceError} REGISTRATION_CLOSED, RATE_LIMITED or BAD_USER_INPUT
   */
  async register(name: string, invitation: string | undefined, clientAddress: string): Promise<NewUser> {
    const { em, mode, newUsersFromAddress } = this.#dependencies;
    this.#refuseIfClosed();
    if (mode === "invite" && invitation === undefined) {
      throw new ServiceError(
        "REGISTRATION_CLOSED",
        "Registration needs an invitation. Ask the operator of this service for a code, and send it as the argument invite.",
        { argument: "invite" },
      );
    }
    const userName = checkedUserName(name);
    await newUsersFromAddress.consume(clientAddress);
    // Uninvited users must not use up the limit of invited ones. An invalid code creates no user.
    const isVouchedFor = invitation !== undefined;
    if (!isVouchedFor) await this.#takeRoom(clientAddress);
    return await createUser(em, userName, { invitation, isVouchedFor });
  }

  /**
   * Checks whether a subject of the identity provider may become a user now, and counts it. The provider stands for an
   * invitation, but the user counts as new.
   * @throws {ServiceError} REGISTRATION_CLOSED or RATE_LIMITED
   */
  async admitSubject(clientAddress: string): Promise<void> {
    this.#refuseIfClosed();
    await this.#dependencies.newUsersFromAddress.consume(clientAddress);
    await this.#takeRoom(clientAddress);
  }

  #refuseIfClosed(): void {
    if (this.#dependencies.mode !== "closed") return;
    throw new ServiceError(
      "REGISTRATION_CLOSED",
      "Registration is closed. Ask the operator of this service to create a user for you.",
    );
  }

  async #takeRoom(clientAddress: string): Promise<void> {
    const { newUsers, allowances } = this.#dependencies;
    await newUsers.consume("all");
    await this.#prepaid.take(chargeOfNewcomer(allowances, clientAddress), rowBytes.user);
  }
}
