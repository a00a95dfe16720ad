import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { sentenceOf } from "../library/library.ts";
import { notify } from "../look/notices.ts";
import { Dialog } from "../look/parts.tsx";
import { EnterKey } from "./account-dialog.tsx";
import { account, keepAccount, openKey, type Account } from "./account.ts";

/** A key that came in a link: somebody may have sent it in order to see what is recorded here. So the page asks. */
export function OfferedKey({ token, onDone }: { token: string; onDone: () => void }): JSX.Element {
  const [found, setFound] = useState<Account | undefined>(undefined);
  const [failure, setFailure] = useState("");
  useEffect(() => {
    openKey(token).then(setFound, (error: unknown) => setFailure(sentenceOf(error)));
  }, [token]);
  const before = account.value;
  const isOther = before !== undefined && found !== undefined && before.id !== found.id;
  const isSame = before !== undefined && before.id === found?.id;
  return (
    <Dialog title="Use this account?" onClose={onDone}>
      {failure && <p class="error-text">{failure}</p>}
      {isSame && (
        <>
          <p>This browser has this account already, and keeps its own key. Open the link on the other device.</p>
          <div class="buttons">
            <button type="button" class="primary" onClick={onDone}>
              Close
            </button>
          </div>
        </>
      )}
      {found && !isSame && (
        <>
          <p>
            The link that you opened has a key of the account “{found.name}”. Whoever made the link will see what you
            record here.
          </p>
          {isOther && (
            <p class="warn-text">
              This browser has another account, “{before.name}”. Without its key, nobody opens those recordings again.
              If you have not saved it, choose No, save it under Account, and open the link again.
            </p>
          )}
          <div class="buttons">
            <button
              type="button"
              class="primary"
              onClick={() => {
                keepAccount(found);
                notify(`This browser now records for “${found.name}”.`);
                onDone();
              }}
            >
              Use it here
            </button>
            <button type="button" onClick={onDone}>
              No
            </button>
          </div>
        </>
      )}
    </Dialog>
  );
}

/** Where only invited people may have an account. `isInvite`: whether a code makes one. */
export function InvitationDialog({
  isInvite,
  onDone,
}: {
  isInvite: boolean;
  onDone: (code: string | undefined) => void;
}): JSX.Element {
  const [code, setCode] = useState("");
  return (
    <Dialog title="You need an invitation" onClose={() => onDone(undefined)}>
      <p>
        Your recording is kept on this device. {isInvite ? "Enter an invitation or a key" : "Enter a key"}, and it is
        sent.
      </p>
      {isInvite && (
        <form
          class="inline-form"
          onSubmit={(event) => {
            event.preventDefault();
            if (code.trim()) onDone(code.trim());
          }}
        >
          <label class="field">
            Invitation
            <input value={code} onInput={({ currentTarget }) => setCode(currentTarget.value)} />
          </label>
          <button type="submit">Continue</button>
        </form>
      )}
      <EnterKey onDone={() => onDone(undefined)} />
    </Dialog>
  );
}
