import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { account, asking, keyIsRefused } from "./account/account.ts";
import type { Dialogs as AllDialogs, Opened } from "./dialogs.tsx";
import { pageOf } from "./library/addresses.ts";
import { LibraryCard } from "./library/library-card.tsx";
import iconUrl from "./look/icon.svg";
import { keepFocus } from "./look/focus.ts";
import { listenToKeys } from "./look/keys.ts";
import { notify, undo } from "./look/notices.ts";
import { Icon, Notices, Spoken } from "./look/parts.tsx";
import { Player } from "./player/player.tsx";
import { playing, togglePlay } from "./player/player.ts";
import { DropCard } from "./queue/drop-card.tsx";
import { filesOf, type FoundFiles } from "./queue/dropped-files.ts";
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
import { count, longTime, size } from "./words.ts";

/** The whole page. */
export function App(): JSX.Element {
  const [opened, setOpened] = useState<Opened | undefined>(undefined);
  const [invitation, setInvitation] = useState<((code: string | undefined) => void) | undefined>(undefined);
  const close = (): void => setOpened(undefined);
  const Dialogs = useDialogs(opened !== undefined || offeredKey.value !== undefined || invitation !== undefined, () => {
    close();
    offeredKey.value = undefined;
    invitation?.(undefined);
  });
  useEffect(() => {
    asking.forInvitation = async () =>
      await new Promise((resolve) => {
        setInvitation(() => (code: string | undefined) => {
          setInvitation(undefined);
          resolve(code);
        });
      });
    listenToKeys((key) => actOnKey(key, () => setOpened({ what: "keys" })), undo);
    keepFocus();
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
        <button type="button" onClick={() => setOpened({ what: "account" })}>
          <Icon of="key" />
          <span>Account{account.value && <span>: {account.value.name}</span>}</span>
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
            <p>
              The key of this device is no longer valid. Nothing is lost: enter another key, and the uploads continue.
            </p>
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
        <button type="button" onClick={() => setOpened({ what: "keys" })}>
          Keyboard shortcuts
        </button>
        <span>
          For programs: <a href="graphql">GraphQL API</a> and <a href="schema.graphql">its schema</a>
        </span>
      </footer>
      <div class="foot">
        <Notices />
        <Player />
      </div>
      <Spoken />
      {isDragging && (
        <div class="drop-here" aria-hidden="true">
          Drop to upload
        </div>
      )}
      {Dialogs && <Dialogs opened={opened} onClose={close} onInvitation={invitation} />}
    </>
  );
}

/** The dialogs, once one of them was opened. Calls `onFailed` if they cannot be loaded. */
function useDialogs(isNeeded: boolean, onFailed: () => void): typeof AllDialogs | undefined {
  const [Dialogs, setDialogs] = useState<typeof AllDialogs | undefined>(undefined);
  // What is wanted may change while they load.
  const failed = useRef(onFailed);
  failed.current = onFailed;
  useEffect(() => {
    if (!isNeeded || Dialogs) return;
    import("./dialogs.tsx").then(
      (part) => setDialogs(() => part.Dialogs),
      () => {
        notify("A part of the page did not load. Check the network, and reload the page.");
        failed.current();
      },
    );
  }, [isNeeded]);
  return Dialogs;
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

async function addFound({ files, unread, isCut }: FoundFiles): Promise<void> {
  if (unread > 0) notify(`${count(unread, "file")} could not be read.`);
  if (isCut) notify(`Only the first ${count(files.length, "file")} were taken. Drop the others afterwards.`);
  await addFiles(files);
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
      if (event.dataTransfer) void filesOf(event.dataTransfer).then(addFound);
    };
    const onPaste = ({ clipboardData }: ClipboardEvent): void => {
      if (clipboardData && clipboardData.files.length > 0) void filesOf(clipboardData).then(addFound);
    };
    addEventListener("dragenter", onEnter);
    addEventListener("dragleave", onLeave);
    addEventListener("dragover", onOver);
    addEventListener("drop", onDrop);
    document.addEventListener("paste", onPaste);
  }, []);
  return isDragging;
}
