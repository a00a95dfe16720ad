interface Claim {
  readonly granted: Promise<void>;
  readonly release: () => void;
}

/** What this tab has, or waits for, by key. */
const claims = new Map<string, Claim>();

/**
 * Resolves when this tab alone may record, offer and send the sound with this key: at once, or when the tab that has it
 * releases it or ends. Without Web Locks, which need a secure address, it resolves at once.
 */
export async function claim(key: string): Promise<void> {
  const mine = claims.get(key) ?? request(key);
  claims.set(key, mine);
  await mine.granted;
}

/** Lets another tab have the sound with this key: it is stored, or thrown away. */
export function release(key: string): void {
  claims.get(key)?.release();
  claims.delete(key);
}

function request(key: string): Claim {
  const granted = Promise.withResolvers<void>();
  const released = Promise.withResolvers<void>();
  const hold = async (): Promise<void> => {
    granted.resolve();
    await released.promise;
  };
  const locks = navigator.locks as LockManager | undefined;
  if (locks) locks.request(key, hold).catch(() => granted.resolve());
  else granted.resolve();
  return { granted: granted.promise, release: released.resolve };
}
