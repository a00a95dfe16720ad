import { signal } from "@preact/signals";
import type { RowFragment } from "./api/operations.ts";

/** Ids of the recordings that this page has deleted. */
const deleted = signal<ReadonlySet<string>>(new Set());
const told = signal<ReadonlyMap<string, RowFragment>>(new Map());

/** Remembers what the service said last about recordings. */
export function noteRecords(records: readonly RowFragment[]): void {
  told.value = new Map([...told.value, ...records.map((record) => [record.id, record] as const)]);
}

/** What the service said last about a recording: a dialog, the player or the queue may hold an older title. */
export function recordNow(record: RowFragment): RowFragment {
  return told.value.get(record.id) ?? record;
}

/** Remembers that recordings are deleted, or that this was undone. */
export function noteDeleted(ids: readonly string[], areDeleted = true): void {
  const others = [...deleted.value].filter((id) => !ids.includes(id));
  deleted.value = new Set(areDeleted ? [...others, ...ids] : others);
}

/** Whether this page has deleted a recording: it has no link any more. */
export function isDeleted({ id }: RowFragment): boolean {
  return deleted.value.has(id);
}
