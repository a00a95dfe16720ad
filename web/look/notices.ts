import { signal } from "@preact/signals";

/** A short message with at most one thing to do about it. */
export interface Notice {
  readonly id: number;
  readonly text: string;
  readonly action?: { readonly label: string; readonly run: () => void };
}

/** How long a notice stays, in milliseconds: also the time in which an action can be undone. */
export const noticeMs = 6000;

/** The notices that are shown, oldest first. */
export const notices = signal<readonly Notice[]>([]);

/** The last sentence for screen readers. The page has one polite region. */
export const spoken = signal("");

let last = 0;

/** Says a sentence to people who hear the page. */
export function say(text: string): void {
  spoken.value = text;
}

/** Shows a message for a while, and says it. Returns a function that removes it. */
export function notify(text: string, action?: Notice["action"]): () => void {
  const id = (last += 1);
  const remove = (): void => void (notices.value = notices.value.filter((notice) => notice.id !== id));
  const once = action && { label: action.label, run: () => (remove(), action.run()) };
  // What can be undone stays for its whole time.
  const kept = notices.value.filter(({ action: other }, index, all) => other || index >= all.length - 2);
  notices.value = [...kept, { id, text, ...(once && { action: once }) }];
  say(action ? `${text} ${action.label} is possible for ${noticeMs / 1000} seconds.` : text);
  setTimeout(remove, noticeMs);
  return remove;
}
