import { signal } from "@preact/signals";
import { account, callAsUser } from "../account/account.ts";
import { ApiError } from "../api/client.ts";
import { currentAnswer } from "../api/current-answer.ts";
import {
  ChangeDocument,
  DeleteDocument,
  LibraryDocument,
  type RecordOrderField,
  type RowFragment,
  type Visibility,
} from "../api/operations.ts";
import { noticeMs, notify } from "../look/notices.ts";
import { isDeleted, noteDeleted, noteRecords } from "../record-now.ts";
import { count, errorWords, quoted } from "../words.ts";

const pageSize = 30;
/** Most ids of one `deleteRecords`. */
const mostAtOnce = 100;

export const records = signal<readonly RowFragment[]>([]);
export const total = signal(0);
export const hasMore = signal(false);
export const isLoading = signal(false);
/** Why the list is not there, as a sentence. */
export const failure = signal("");
export const searchText = signal("");
export const order = signal<RecordOrderField>("CREATED_AT");

let endCursor: string | null = null;
/** The search and the order that {@link records} answers. */
let answered = "";
let loading = new AbortController();
/** Number of changes of recordings that this page has made. */
let changes = 0;
/** Recordings that are gone from the list, but can still be brought back. */
const leaving = new Map<string, { readonly timer: ReturnType<typeof setTimeout>; readonly owner: string }>();

/** Empties the list: it was another user's. */
export function emptyLibrary(): void {
  loading.abort();
  showNothing();
  searchText.value = "";
  isLoading.value = false;
  failure.value = "";
}

function showNothing(): void {
  answered = "";
  records.value = [];
  total.value = 0;
  hasMore.value = false;
}

/** Loads the list from its beginning, or its next page. */
export async function loadLibrary({ more = false } = {}): Promise<void> {
  if (!account.value) return;
  loading.abort();
  const mine = (loading = new AbortController());
  isLoading.value = true;
  failure.value = "";
  const asked = { text: searchText.value.trim().slice(0, 200) || null, field: order.value };
  try {
    const question = { first: pageSize, after: more ? endCursor : null, ...asked };
    const { me } = await currentAnswer(
      async () => await callAsUser(LibraryDocument, question, { signal: mine.signal }),
      () => changes,
    );
    answered = JSON.stringify(asked);
    const list = me.records!;
    noteRecords(list.nodes);
    const shown = list.nodes.filter((record) => !isDeleted(record));
    const known = new Set(more ? records.value.map(({ id }) => id) : []);
    records.value = more ? [...records.value, ...shown.filter(({ id }) => !known.has(id))] : shown;
    total.value = (list.totalCount ?? 0) - (list.nodes.length - shown.length);
    hasMore.value = list.pageInfo.hasNextPage;
    endCursor = list.pageInfo.endCursor;
  } catch (error) {
    if (mine.signal.aborted) return;
    failure.value = sentenceOf(error);
    // What another search has found is no answer to this one.
    if (answered !== JSON.stringify(asked)) showNothing();
  } finally {
    if (loading === mine) isLoading.value = false;
  }
}

/** Codes for which the service's own sentence is for programs. */
const forPrograms = new Set(["FORBIDDEN", "INTERNAL_SERVER_ERROR", "REGISTRATION_CLOSED", "USER_DISABLED"]);

/** What to tell a person about an error. */
export function sentenceOf(error: unknown): string {
  if (!(error instanceof ApiError)) return "Something went wrong. Reload the page.";
  if (error.code === "NETWORK") return "The service cannot be reached. Is the network there?";
  return (forPrograms.has(error.code) && errorWords[error.code]) || error.message;
}

/** Puts a recording that was just stored into the list, or loads the list again if its place is not known here. */
export function addStored(record: RowFragment): void {
  noteRecords([record]);
  if (records.value.some(({ id }) => id === record.id)) return;
  // An answer that is on its way may not have it yet, and one that failed has no rows around it.
  if (isLoading.value || failure.value || searchText.value.trim() || order.value !== "CREATED_AT") {
    void loadLibrary();
    return;
  }
  // Files of a batch are not stored in the order in which they began.
  const list = [record, ...records.value].toSorted((a, b) => newestFirst(a, b));
  // One that was there already may belong to a part that is not loaded.
  if (hasMore.value && list.at(-1) === record) return;
  records.value = list;
  total.value += 1;
}

/** The order of the service: by the moment at which the upload began, then by id. */
function newestFirst(a: RowFragment, b: RowFragment): number {
  return Date.parse(b.createdAt) - Date.parse(a.createdAt) || (a.id < b.id ? 1 : -1);
}

/** Changes the title or the visibility of a recording. Resolves with whether it was done. */
export async function changeRecord(id: string, change: { title?: string; visibility?: Visibility }): Promise<boolean> {
  try {
    const { updateRecord } = await callAsUser(ChangeDocument, { id, ...change });
    changes += 1;
    const { record } = updateRecord!;
    noteRecords([record]);
    records.value = records.value.map((one) => (one.id === id ? record : one));
    return true;
  } catch (error) {
    // The controls show again what is true.
    noteRecords([]);
    records.value = [...records.value];
    notify(sentenceOf(error));
    return false;
  }
}

/** The first control of a recording in the list, as a selector. */
function rowOf(id: string): string {
  return `[data-row="${id}"]`;
}

/** Makes a recording public or private, with undo: it changes who can open it. */
export async function changeVisibility({ id, title }: RowFragment, visibility: Visibility): Promise<void> {
  if (!(await changeRecord(id, { visibility }))) return;
  const isPublic = visibility === "PUBLIC";
  const name = quoted(title);
  notify(
    isPublic ? `Anyone with the link can listen to ${name}.` : `${name} is private: its link opens it no longer.`,
    {
      label: "Undo",
      run: () => void changeRecord(id, { visibility: isPublic ? "PRIVATE" : "PUBLIC" }),
      focus: rowOf(id),
    },
  );
}

/** Takes recordings out of the list. They are deleted when the time to undo that is over. */
export function removeRecords(removed: readonly RowFragment[]): void {
  const owner = account.value;
  const [first, second] = removed;
  if (!owner || !first) return;
  const ids = removed.map(({ id }) => id);
  const isRemoved = ({ id }: RowFragment): boolean => ids.includes(id);
  const before = records.value;
  records.value = before.filter((record) => !isRemoved(record));
  total.value -= ids.length;
  noteDeleted(ids);
  const timer = setTimeout(() => void deleteNow(ids), noticeMs);
  for (const id of ids) leaving.set(id, { timer, owner: owner.id });
  notify(second ? `${count(ids.length, "recording")} are deleted.` : `${quoted(first.title)} is deleted.`, {
    label: "Undo",
    run: () => {
      clearTimeout(timer);
      if (!leaving.has(first.id)) return;
      for (const id of ids) leaving.delete(id);
      noteDeleted(ids, false);
      let list = records.value;
      for (const [place, record] of before.entries()) if (isRemoved(record)) list = list.toSpliced(place, 0, record);
      records.value = list;
      total.value += ids.length;
    },
    focus: rowOf(first.id),
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
  // Those of another account stay: nobody can delete them any more.
  noteDeleted(
    ids.filter((id) => !mine.includes(id)),
    false,
  );
  for (const id of ids) leaving.delete(id);
  if (mine.length === 0) return;
  try {
    const parts = Array.from({ length: Math.ceil(mine.length / mostAtOnce) }, (_, at) =>
      mine.slice(at * mostAtOnce, (at + 1) * mostAtOnce),
    );
    // All are under way before the page goes away.
    await Promise.all(parts.map(async (part) => await callAsUser(DeleteDocument, { ids: part }, { keepalive: true })));
  } catch (error) {
    noteDeleted(ids, false);
    notify(`Nothing was deleted. ${sentenceOf(error)}`);
    await loadLibrary();
  }
}
