/** What this browser remembers under a name. */
export function recall<T>(name: string, otherwise: T): T {
  try {
    return (JSON.parse(localStorage.getItem(prefix + name) ?? "null") as T | null) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** Remembers a value; undefined forgets it. Where a browser keeps nothing, it counts as long as the page is open. */
export function remember(name: string, value: unknown): void {
  try {
    if (value === undefined) localStorage.removeItem(prefix + name);
    else localStorage.setItem(prefix + name, JSON.stringify(value));
  } catch {
    // Nothing is kept.
  }
}

/** Other pages of this host have the same store. */
export const prefix = "web-user-music.";
