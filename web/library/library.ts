import { signal } from "@preact/signals";
import { account, callAsUser } from "../account/account.ts";
import { ApiError } from "../api/client.ts";
import {
  ChangeDocument,
  DeleteDocument,
  LibraryDocument,
  type RecordOrderField,
  type RowFragment,
  type Visibility,
} from "../api/operations.ts";
import { noticeMs, notify } from "../look/notices.ts";
import { errorWords } from "../words.ts";

const pageSize = 30;

export const records = signal<readonly RowFragment[]>([]);
export const total = signal(0);
export const hasMore = signal(false);
export const isLoading = signal(false);
/** Why the list is not there, as a sentence. */
export const failure = signal("");
export const searchText = signal("");
export const order = signal<RecordOrderField>("CREATED_AT");

let endCursor: string | null = null;
let loading = new AbortController();
/** Recordings that are gone from the list, but can still be brought back. */
const leaving = new Map<string, { readonly timer: ReturnType<typeof setTimeout>; readonly owner: string }>();

/** Loads the list from its beginning, or its next page. */
export async function loadLibrary({ more = false } = {}): Promise<void> {
  if (!account.value) {
    records.value = [];
    total.value = 0;
    hasMore.value = false;
    return;
  }
  loading.abort();
  const mine = (loading = new AbortController());
  isLoading.value = true;
  failure.value = "";
  try {
    const { me } = await callAsUser(
      LibraryDocument,
      {
        first: pageSize,
        after: more ? endCursor : null,
        text: searchText.value.trim().slice(0, 200) || null,
        field: order.value,
      },
      { signal: mine.signal },
    );
    const list = me.records!;
    const shown = list.nodes.filter(({ id }) => !leaving.has(id));
    const known = new Set(more ? records.value.map(({ id }) => id) : []);
    records.value = more ? [...records.value, ...shown.filter(({ id }) => !known.has(id))] : shown;
    total.value = (list.totalCount ?? 0) - leaving.size;
    hasMore.value = list.pageInfo.hasNextPage;
    endCursor = list.pageInfo.endCursor;
  } catch (error) {
    if (!mine.signal.aborted) failure.value = sentenceOf(error);
  } finally {
    if (loading === mine) isLoading.value = false;
  }
}

/** What to tell a person about an error. */
export function sentenceOf(error: unknown): string {
  if (!(error instanceof ApiError)) return "Something went wrong. Reload the page.";
  if (error.code === "NETWORK") return "The service cannot be reached. Is the network there?";
  return error.code === "RATE_LIMITED" || error.code === "BUSY"
    ? error.message
    : (errorWords[error.code] ?? error.message);
}

/** Puts a recording that was just stored at the top of the list. */
export function addStored(record: RowFragment): void {
  if (records.value.some(({ id }) => id === record.id)) return;
  records.value = [record, ...records.value];
  total.value += 1;
}

/** Changes the title or the visibility of a recording. Resolves with whether it was done. */
export async function changeRecord(id: string, change: { title?: string; visibility?: Visibility }): Promise<boolean> {
  try {
    const { updateRecord } = await callAsUser(ChangeDocument, { id, ...change });
    const { record } = updateRecord!;
    records.value = records.value.map((one) => (one.id === id ? record : one));
    return true;
  } catch (error) {
    notify(sentenceOf(error));
    return false;
  }
}

/** Takes a recording out of the list. It is deleted when the time to undo that is over. */
export function removeRecord(record: RowFragment): void {
  const { id, title } = record;
  const owner = account.value;
  if (!owner) return;
  const place = records.value.findIndex((one) => one.id === id);
  records.value = records.value.filter((one) => one.id !== id);
  total.value -= 1;
  const timer = setTimeout(() => void deleteNow([id]), noticeMs);
  leaving.set(id, { timer, owner: owner.id });
  notify(`“${title}” is deleted.`, {
    label: "Undo",
    run: () => {
      clearTimeout(leaving.get(id)?.timer);
      if (!leaving.delete(id)) return;
      records.value = records.value.toSpliced(Math.max(0, place), 0, record);
      total.value += 1;
    },
  });
}

/** Deletes now what still waits for an undo: the page goes away. */
export function deleteLeaving(): void {
  const ids = [...leaving.keys()];
  for (const { timer } of leaving.values()) clearTimeout(timer);
  if (ids.length > 0) void deleteNow(ids);
}

async function deleteNow(ids: string[]): Promise<void> {
  const mine = ids.filter((id) => leaving.get(id)?.owner === account.value?.id);
  for (const id of ids) leaving.delete(id);
  if (mine.length === 0) return;
  try {
    await callAsUser(DeleteDocument, { ids: mine }, { keepalive: true });
  } catch (error) {
    notify(`Nothing was deleted. ${sentenceOf(error)}`);
    await loadLibrary();
  }
}
