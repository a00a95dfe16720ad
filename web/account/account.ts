import { signal } from "@preact/signals";
import { ApiError, call } from "../api/client.ts";
import { MeDocument, SignUpDocument, type TypedDocumentString } from "../api/operations.ts";
import { prefix, recall, remember } from "../remembered.ts";

/** The user of this browser, and the key that proves it. */
export interface Account {
  readonly id: string;
  readonly name: string;
  /** The token: whoever has it can do what this device can. */
  readonly token: string;
}

/** Undefined until the first recording, or until a key is entered. */
export const account = signal(recallAccount());

/** Whether the service has refused the key of this device. */
export const keyIsRefused = signal(false);

/** Resolves with an invitation code that a person enters, or undefined if they enter none. The page sets it. */
export const asking: { forInvitation: () => Promise<string | undefined> } = { forInvitation: async () => undefined };

function recallAccount(): Account | undefined {
  return recall<Account | undefined>("account", undefined);
}

/** Keeps an account in this browser; undefined forgets it. */
export function keepAccount(next: Account | undefined): void {
  account.value = next;
  keyIsRefused.value = false;
  remember("account", next);
}

/** Follows changes that another tab makes. */
export function watchOtherTabs(): void {
  addEventListener("storage", ({ key }) => {
    if (key !== `${prefix}account`) return;
    account.value = recallAccount();
    keyIsRefused.value = false;
  });
}

let signingUp: Promise<Account> | undefined;

/**
 * The account of this browser. The first call creates the user.
 * @throws {ApiError} REGISTRATION_CLOSED if a person must enter an invitation or a key first
 */
export async function ensureAccount(): Promise<Account> {
  if (keyIsRefused.value) throw new ApiError("UNAUTHENTICATED", "The key of this device is no longer valid.");
  const known = account.value ?? recallAccount();
  if (known) return known;
  signingUp ??= signUp().finally(() => (signingUp = undefined));
  return await signingUp;
}

/** The name of a user who was not asked for one. */
const firstName = "Me";

async function signUp(invite?: string): Promise<Account> {
  try {
    const { createUser } = await call(SignUpDocument, { name: firstName, invite: invite ?? null });
    const { user, token } = createUser!;
    keepAccount({ ...user, token });
    return account.value!;
  } catch (error) {
    if (!(error instanceof ApiError && error.code === "REGISTRATION_CLOSED")) throw error;
    const given = await asking.forInvitation();
    if (account.value) return account.value; // they entered a key instead
    if (given === undefined) throw error;
    return await signUp(given);
  }
}

/**
 * The account that a key opens.
 * @throws {ApiError}
 */
export async function openKey(token: string): Promise<Account> {
  const { me } = await call(MeDocument, {}, { token });
  return { id: me.id, name: me.name, token };
}

/**
 * Runs a document as the user of this browser.
 * @throws {ApiError}
 */
export async function callAsUser<R, V>(
  document: TypedDocumentString<R, V>,
  variables: V,
  options: { keepalive?: boolean; signal?: AbortSignal } = {},
): Promise<R> {
  const token = account.value?.token;
  try {
    return await call(document, variables, { token, ...options });
  } catch (error) {
    noteRefusedKey(error, token);
    throw error;
  }
}

/**
 * Remembers that the service refused the key, so that the page can ask for another. An answer to a key that was sent
 * earlier says nothing about the one that is here now.
 */
export function noteRefusedKey(error: unknown, sent: string | undefined): void {
  if (!(error instanceof ApiError) || error.code !== "UNAUTHENTICATED" || sent === undefined) return;
  if (sent === account.value?.token) keyIsRefused.value = true;
}
