import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { AccountDialog, EnterKey } from "./account/account-dialog.tsx";
import { account, asking, keepAccount, keyIsRefused, openKey, type Account } from "./account/account.ts";
import type { RowFragment } from "./api/operations.ts";
import { pageOf } from "./library/addresses.ts";
import { LibraryCard } from "./library/library-card.tsx";
import { sentenceOf } from "./library/library.ts";
import { ShareDialog } from "./library/share-dialog.tsx";
import iconUrl from "./look/icon.svg";
import { keys, listenToKeys, singleKeysAreOn, switchSingleKeys } from "./look/keys.ts";
import { notify } from "./look/notices.ts";
import { Dialog, Icon, Notices, Spoken } from "./look/parts.tsx";
import { Player } from "./player/player.tsx";
import { playing, togglePlay } from "./player/player.ts";
import { DropCard } from "./queue/drop-card.tsx";
import { filesOf } from "./queue/dropped-files.ts";
import { QueueCard } from "./queue/queue-card.tsx";
import { FoundTakes } from "./recorder/found-takes.tsx";
import { RecorderCard } from "./recorder/recorder-card.tsx";
import { pauseTake, phase } from "./recorder/recorder.ts";
import {
  addFiles,
  discard,
  foundTakes,
  isOnline,
  offeredKey,
  queue,
  record,
  removeFromQueue,
  service,
  stop,
  throwAway,
  upload,
} from "./start.ts";
import { longTime, size } from "./words.ts";

type Opened = { readonly what: "account" | "keys" } | { readonly what: "share"; readonly record: RowFragment };

/** The whole page. */
export function App(): JSX.Element {
  const [opened, setOpened] = useState<Opened | undefined>(undefined);
  const [invitation, setInvitation] = useState<((code: string | undefined) => void) | undefined>(undefined);
  const close = (): void => setOpened(undefined);
  useEffect(() => {
    asking.forInvitation = async () => await new Promise((resolve) => setInvitation(() => resolve));
    listenToKeys((key) => actOnKey(key, () => setOpened({ what: "keys" })));
  }, []);
  const isDragging = useDrop();
  const limits = service.value;
  return (
    <>
      <header class="top">
        <h1>
          <img src={iconUrl} alt="" width="32" height="32" />
          web-user-music
        </h1>
        <button type="button" class="quiet" onClick={() => setOpened({ what: "account" })}>
          <Icon of="key" />
          {account.value ? account.value.name : "Account"}
        </button>
      </header>
      <main>
        {!isOnline.value && (
          <p class="banner">
            You are offline. Recording works; what you record and drop is sent when the network is back.
          </p>
        )}
        {keyIsRefused.value && (
          <div class="banner error" role="alert">
            <p>The key of this device no longer counts. Nothing is lost: enter another key, and it goes on.</p>
            <button type="button" onClick={() => setOpened({ what: "account" })}>
              Enter a key
            </button>
          </div>
        )}
        <FoundTakes takes={foundTakes.value} onUpload={upload} onThrowAway={throwAway} />
        <RecorderCard onRecord={() => void record()} onStop={() => void stop()} onDiscard={() => void discard()} />
        <QueueCard
          queue={queue}
          linkOf={pageOf}
          onShare={(shared) => setOpened({ what: "share", record: shared })}
          onRemove={removeFromQueue}
        />
        <DropCard
          onFiles={(files) => void addFiles(files)}
          limits={
            limits ? `At most ${size(limits.maxUploadBytes)} and ${longTime(limits.maxDurationSeconds)} each.` : ""
          }
        />
        <LibraryCard onShare={(shared) => setOpened({ what: "share", record: shared })} />
      </main>
      <footer class="bottom">
        <button type="button" class="quiet" onClick={() => setOpened({ what: "keys" })}>
          Keys
        </button>
        <a href="graphql">The API</a>
        <a href="schema.graphql">Its schema</a>
      </footer>
      <Player />
      <Notices />
      <Spoken />
      {isDragging && (
        <div class="drop-here" aria-hidden="true">
          Drop to send
        </div>
      )}
      {opened?.what === "account" && <AccountDialog onClose={close} />}
      {opened?.what === "keys" && <KeysDialog onClose={close} />}
      {opened?.what === "share" && <ShareDialog record={opened.record} onClose={close} />}
      {offeredKey.value && <OfferedKey token={offeredKey.value} onDone={() => (offeredKey.value = undefined)} />}
      {invitation && (
        <InvitationDialog
          onDone={(code) => {
            setInvitation(undefined);
            invitation(code);
          }}
        />
      )}
    </>
  );
}

function actOnKey(key: string, showKeys: () => void): boolean {
  const isOn = phase.value === "recording" || phase.value === "paused";
  if (key === "?") showKeys();
  else if (key === "/") document.querySelector<HTMLElement>("#search")?.focus();
  else if (key === "r" || key === "R") void record();
  else if ((key === "p" || key === "P") && isOn) pauseTake();
  else if (key === " " && isOn) void stop();
  else if (key === " " && playing.value) void togglePlay();
  else return false;
  return true;
}

/** Takes files that are dropped or pasted anywhere. Returns whether some hang over the page. */
function useDrop(): boolean {
  const [isDragging, setDragging] = useState(false);
  useEffect(() => {
    let depth = 0;
    const hasFiles = ({ dataTransfer }: DragEvent): boolean => dataTransfer?.types.includes("Files") ?? false;
    const move = (by: number, event: DragEvent): void => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      depth = Math.max(0, depth + by);
      setDragging(depth > 0);
    };
    const onEnter = (event: DragEvent): void => move(1, event);
    const onLeave = (event: DragEvent): void => move(-1, event);
    const onOver = (event: DragEvent): void => move(0, event);
    const onDrop = (event: DragEvent): void => {
      move(-depth, event);
      if (event.dataTransfer) void filesOf(event.dataTransfer).then(addFiles);
    };
    const onPaste = ({ clipboardData }: ClipboardEvent): void => {
      if (clipboardData && clipboardData.files.length > 0) void filesOf(clipboardData).then(addFiles);
    };
    addEventListener("dragenter", onEnter);
    addEventListener("dragleave", onLeave);
    addEventListener("dragover", onOver);
    addEventListener("drop", onDrop);
    document.addEventListener("paste", onPaste);
  }, []);
  return isDragging;
}

/** A key that came in a link: somebody may have sent it in order to see what is recorded here. So the page asks. */
function OfferedKey({ token, onDone }: { token: string; onDone: () => void }): JSX.Element {
  const [found, setFound] = useState<Account | undefined>(undefined);
  const [failure, setFailure] = useState("");
  useEffect(() => {
    openKey(token).then(setFound, (error: unknown) => setFailure(sentenceOf(error)));
  }, [token]);
  const before = account.value;
  const isOther = before !== undefined && found !== undefined && before.id !== found.id;
  return (
    <Dialog title="Use this account?" onClose={onDone}>
      {failure && <p class="error-text">{failure}</p>}
      {found && (
        <>
          <p>
            The link that you opened has a key of the account “{found.name}”. Whoever made the link will see what you
            record here.
          </p>
          {isOther && (
            <p class="warn-text">
              This browser has another account, “{before.name}”. Save its key first: without it, nobody opens those
              recordings again.
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

/** Where only invited people may have an account. */
function InvitationDialog({ onDone }: { onDone: (code: string | undefined) => void }): JSX.Element {
  const [code, setCode] = useState("");
  const isInvite = service.value?.registration !== "CLOSED";
  return (
    <Dialog title="This service is for invited people" onClose={() => onDone(undefined)}>
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
          <button type="submit">Go on</button>
        </form>
      )}
      <EnterKey onDone={() => onDone(undefined)} />
    </Dialog>
  );
}

function KeysDialog({ onClose }: { onClose: () => void }): JSX.Element {
  const [isOn, setOn] = useState(singleKeysAreOn());
  return (
    <Dialog title="Keys" onClose={onClose}>
      <p>They work while no button and no field has the focus.</p>
      <dl class="keys">
        {keys.map(([key, does]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{does}</dd>
          </div>
        ))}
      </dl>
      <label class="check">
        <input
          type="checkbox"
          checked={isOn}
          onChange={({ currentTarget }) => {
            switchSingleKeys(currentTarget.checked);
            setOn(currentTarget.checked);
          }}
        />
        Single letters do something
      </label>
    </Dialog>
  );
}
