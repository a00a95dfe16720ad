import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "../api/client.ts";
import { AccountDocument, RenameUserDocument, type AccountQuery } from "../api/operations.ts";
import { copyText } from "../clipboard.ts";
import { sentenceOf } from "../library/library.ts";
import { notify } from "../look/notices.ts";
import { Dialog, Icon } from "../look/parts.tsx";
import { clock, count, longTime, size } from "../words.ts";
import { account, callAsUser, keepAccount, keyIsRefused, openKey, type Account } from "./account.ts";
import { Devices } from "./devices.tsx";

/** The account: its key, its space and its devices. */
export function AccountDialog({ onClose }: { onClose: () => void }): JSX.Element {
  const user = account.value;
  return (
    <Dialog title="Account" onClose={onClose}>
      {user === undefined ? (
        <p>There is no account yet. The first recording, or the first file, makes one. Nothing has to be filled in.</p>
      ) : keyIsRefused.value ? (
        <p class="error-text">The service no longer accepts the key of this device. Enter another one.</p>
      ) : (
        <>
          <Name user={user} key={`name ${user.id}`} />
          <Space key={`space ${user.id}`} />
          <Key user={user} />
          <Devices key={`devices ${user.id}`} />
        </>
      )}
      <EnterKey />
    </Dialog>
  );
}

function Name({ user }: { user: Account }): JSX.Element {
  const input = useRef<HTMLInputElement>(null);
  const save = async (): Promise<void> => {
    const name = input.current?.value.trim() ?? "";
    if (name === "" || name === user.name) return;
    try {
      await callAsUser(RenameUserDocument, { name });
      keepAccount({ ...user, name });
      notify("The name is changed.");
    } catch (error) {
      notify(sentenceOf(error));
    }
  };
  return (
    <form
      class="inline-form"
      onSubmit={(event) => {
        event.preventDefault();
        void save();
      }}
    >
      <label class="field">
        Your name
        <input ref={input} defaultValue={user.name} maxLength={100} />
      </label>
      <button type="submit">Save</button>
    </form>
  );
}

function Space(): JSX.Element | null {
  const [usage, setUsage] = useState<AccountQuery["me"]["usage"]>(null);
  const [failure, setFailure] = useState("");
  useEffect(() => {
    callAsUser(AccountDocument, {}).then(
      ({ me }) => setUsage(me.usage),
      (error: unknown) => setFailure(sentenceOf(error)),
    );
  }, []);
  if (failure) return <p class="error-text">{failure}</p>;
  if (!usage) return null;
  const { bytes, seconds, records, limits } = usage;
  const number = (n: number): string => n.toLocaleString();
  const parts: readonly [string, number, number | null, (n: number) => string, (n: number) => string][] = [
    ["Space", bytes, limits.bytes, size, size],
    ["Time", seconds, limits.seconds, clock, longTime],
    ["Recordings", records, limits.records, number, number],
  ];
  const limited = parts.filter(([, , limit]) => limit !== null);
  return (
    <section aria-label="Space">
      <h3>Space</h3>
      <p>
        {count(records, "recording")}, {clock(seconds)} of sound, {size(bytes)}
        {limited.length === 0 ? ". There is no limit." : "."}
      </p>
      {limited.map(([name, used, limit, words, limitWords]) => (
        <label class="field" key={name}>
          {name}: {words(used)} of {limitWords(limit ?? 0)}
          <meter min={0} max={limit ?? 1} high={(limit ?? 1) * 0.9} optimum={0} value={used} />
        </label>
      ))}
    </section>
  );
}

/** The key in a real form, so that password managers offer to keep it. */
function Key({ user }: { user: Account }): JSX.Element {
  const [isShown, setShown] = useState(false);
  const download = (): void => {
    const text = `The key of ${user.name} at ${location.href}\n\n${user.token}\n\nWhoever has it can do what you can.\n`;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    link.download = "web-user-music key.txt";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  };
  return (
    <section aria-labelledby="key-title">
      <h3 id="key-title">Your key</h3>
      <p>
        The key opens your account: there is no password and no email address. Save it. In another browser, or if this
        one forgets it, enter it to see your recordings again.
      </p>
      <form onSubmit={(event) => event.preventDefault()}>
        <input
          class="unseen"
          type="text"
          name="username"
          autoComplete="username"
          readOnly
          tabIndex={-1}
          aria-label="User"
          value={`${user.name} (${user.id})`}
        />
        <div class="the-link">
          <input
            {...(isShown ? { type: "text" } : { type: "password" })}
            name="password"
            autoComplete="current-password"
            aria-label="Key"
            readOnly
            value={user.token}
            onFocus={({ currentTarget }) => currentTarget.select()}
          />
          <button type="button" aria-pressed={isShown} onClick={() => setShown(!isShown)}>
            Show
          </button>
        </div>
      </form>
      <div class="buttons">
        <button
          type="button"
          onClick={() =>
            void copyText(user.token).then((done) =>
              notify(done ? "The key is copied." : "Select the key and copy it."),
            )
          }
        >
          <Icon of="copy" />
          Copy
        </button>
        <button type="button" onClick={download}>
          <Icon of="download" />
          Save as a file
        </button>
      </div>
    </section>
  );
}

/** Opens the recordings of another key in this browser. */
export function EnterKey({ onDone }: { onDone?: () => void }): JSX.Element {
  const input = useRef<HTMLInputElement>(null);
  const [failure, setFailure] = useState("");
  const enter = async (): Promise<void> => {
    const token = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/i.exec(input.current?.value ?? "")?.[0];
    if (token === undefined) return setFailure("A key looks like 01234567-89ab-4cde-8f01-23456789abcd.");
    try {
      keepAccount(await openKey(token));
      notify(`These are the recordings of ${account.value?.name}.`);
      onDone?.();
    } catch (error) {
      const isUnknown = error instanceof ApiError && error.code === "UNAUTHENTICATED";
      setFailure(isUnknown ? "No account has this key, or it was revoked." : sentenceOf(error));
    }
  };
  const form = (
    <form
      class="inline-form"
      onSubmit={(event) => {
        event.preventDefault();
        void enter();
      }}
    >
      <input class="unseen" type="text" name="username" autoComplete="username" tabIndex={-1} aria-label="User" />
      <p class="quiet-text">
        Have you an account on this service? Its key opens it here. The key is on the other device, under Account.
      </p>
      <label class="field">
        Key of your account
        <input ref={input} type="password" autoComplete="current-password" />
      </label>
      <button type="submit">Open account</button>
      {failure && <p class="error-text">{failure}</p>}
    </form>
  );
  if (!account.value || keyIsRefused.value) return form;
  return (
    <details class="settings">
      <summary>Open another account in this browser</summary>
      <p class="warn-text">Save the key above first: without it, nobody opens these recordings again.</p>
      {form}
    </details>
  );
}
