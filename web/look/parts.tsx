import { signal } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { notices, spoken } from "./notices.ts";

const paths = {
  close: "M6 6l12 12M18 6 6 18",
  copy: "M9 9h10v11H9zM5 15V4h10",
  download: "M12 4v11m-5-5 5 5 5-5M5 20h14",
  edit: "M4 20h4L19 9l-4-4L4 16zM13 7l4 4",
  file: "M6 3h8l4 4v14H6zM14 3v4h4",
  key: "M14 10a4 4 0 1 0-3.5 4L13 16h2v2h2v2h3v-3l-6.3-6.2",
  pause: "M8 5v14M16 5v14",
  play: "M8 5v14l11-7z",
  retry: "M5 12a7 7 0 1 1 2 5M5 19v-4h4",
  search: "M11 4a7 7 0 1 1 0 14 7 7 0 0 1 0-14m5 12 5 5",
  share: "M12 15V4M8 8l4-4 4 4M6 12v8h12v-8",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
} as const;

/** A drawing that says nothing to screen readers: the button around it has the name. */
export function Icon({ of }: { of: keyof typeof paths }): JSX.Element {
  return (
    <svg class={`icon ${of}`} viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={paths[of]} />
    </svg>
  );
}

/** A button that is only a drawing. */
export function IconButton({
  icon,
  label,
  onClick,
}: {
  icon: keyof typeof paths;
  label: string;
  onClick: () => void;
}): JSX.Element {
  return (
    <button type="button" class="bare" aria-label={label} title={label} onClick={onClick}>
      <Icon of={icon} />
    </button>
  );
}

/** Number of open dialogs. */
const dialogs = signal(0);

/** A modal dialog. It opens when it is put into the page; focus returns to where it was when it closes. */
export function Dialog({
  title,
  onClose,
  children,
}: {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
}): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const before = document.activeElement;
    const shown = dialog.current;
    shown?.showModal();
    dialogs.value += 1;
    return () => {
      dialogs.value -= 1;
      shown?.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      aria-label={title}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      // A browser may close it without asking.
      onClose={({ currentTarget }) => {
        if (currentTarget.isConnected) onClose();
      }}
    >
      <header class="dialog-head">
        <h2>{title}</h2>
        <IconButton icon="close" label="Close" onClick={onClose} />
      </header>
      {children}
      <NoticeList />
    </dialog>
  );
}

/** The short messages at the foot of the page, said by {@link Spoken}. An open dialog has them, because it covers the page. */
export function Notices(): JSX.Element | undefined {
  return dialogs.value > 0 ? undefined : <NoticeList />;
}

function NoticeList(): JSX.Element {
  return (
    <aside class="notices" aria-label="Messages">
      {notices.value.map(({ id, text, action }) => (
        <div class="notice" key={id}>
          <span>{text}</span>
          {action && (
            <button type="button" onClick={action.run}>
              {action.label}
            </button>
          )}
        </div>
      ))}
    </aside>
  );
}

/** The page's one polite region for screen readers. */
export function Spoken(): JSX.Element {
  return (
    <output class="unseen" aria-live="polite">
      {spoken.value}
    </output>
  );
}
