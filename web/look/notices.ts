import { signal } from "@preact/signals";

/** A short message with at most one thing to do about it. */
export interface Notice {
  readonly id: number;
  readonly text: string;
  readonly action?: {
    readonly label: string;
    readonly run: () => void;
    /** Selector of what gets the focus then. */
    readonly focus: string;
  };
}

/** How long a notice stays, in milliseconds: also the time in which an action can be undone. */
export const noticeMs = 6000;

/** The notices that are shown, newest first: if there is no room for all, it is the one that is seen. */
export const notices = signal<readonly Notice[]>([]);

/** The last sentence for screen readers. The page has one polite region. */
export const spoken = signal("");

let last = 0;

/** Says a sentence to people who hear the page. */
export function say(text: string): void {
  // The same sentence again is a change, too.
  spoken.value = spoken.value === text ? `${text}\u00a0` : text;
}

/** Shows a message for a while, and says it. Returns a function that removes it. */
export function notify(text: string, action?: Notice["action"]): () => void {
  const id = (last += 1);
  const remove = (): void => void (notices.value = notices.value.filter((notice) => notice.id !== id));
  const once = action && {
    ...action,
    run: () => {
      remove();
      action.run();
      say(`${action.label}: done.`);
      requestAnimationFrame(() => document.querySelector<HTMLElement>(action.focus)?.focus());
    },
  };
  // What can be undone stays for its whole time.
  const kept = notices.value.filter(({ action: other }, index) => other || index < 2);
  notices.value = [{ id, text, ...(once && { action: once }) }, ...kept];
  say(action ? `${text} ${action.label} is possible for ${noticeMs / 1000} seconds, with Control and Z.` : text);
  setTimeout(remove, noticeMs);
  return remove;
}

/** Does what the newest notice offers, if one does. */
export function undo(): boolean {
  const offered = notices.value.find(({ action }) => action);
  offered?.action?.run();
  return offered !== undefined;
}
