import type { JSX } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { RecordOrderField, RowFragment } from "../api/operations.ts";
import { say } from "../look/notices.ts";
import { Icon, IconButton } from "../look/parts.tsx";
import { isPaused, ownPath, playing, position, stopPlaying, togglePlay } from "../player/player.ts";
import { WaveForm } from "../player/wave-form.tsx";
import { count, length, loudnessWords, moment, warningWords } from "../words.ts";
import {
  changeRecord,
  failure,
  hasMore,
  isLoading,
  loadLibrary,
  order,
  records,
  removeRecord,
  searchText,
  total,
} from "./library.ts";

const orders: readonly [RecordOrderField, string][] = [
  ["CREATED_AT", "Newest first"],
  ["TITLE", "By title"],
  ["DURATION", "Longest first"],
  ["SIZE", "Largest first"],
];

/** The recordings of the user. */
export function LibraryCard({ onShare }: { onShare: (record: RowFragment) => void }): JSX.Element {
  const list = useRef<HTMLUListElement>(null);
  const isEmpty = records.value.length === 0;
  const isSearch = searchText.value.trim() !== "";
  const remove = (record: RowFragment, index: number): void => {
    stopPlaying(record.id);
    removeRecord(record);
    // Focus goes to the row that takes its place.
    requestAnimationFrame(() => {
      const buttons = list.current?.querySelectorAll<HTMLElement>("[data-row-action=play]");
      (buttons?.[Math.min(index, buttons.length - 1)] ?? document.querySelector<HTMLElement>("#search"))?.focus();
    });
  };
  return (
    <section class="card library" aria-labelledby="library-title">
      <div class="card-head">
        <h2 id="library-title">Your recordings</h2>
        {total.value > 0 && <span class="quiet-text">{count(total.value, "recording")}</span>}
      </div>
      {(!isEmpty || isSearch) && <Finder />}
      {failure.value && (
        <p class="error-text">
          {failure.value}{" "}
          <button type="button" onClick={() => void loadLibrary()}>
            Try again
          </button>
        </p>
      )}
      <ul class="rows" ref={list} aria-busy={isLoading.value}>
        {records.value.map((record, index) => (
          <Row key={record.id} record={record} onShare={() => onShare(record)} onRemove={() => remove(record, index)} />
        ))}
      </ul>
      {isEmpty && !isLoading.value && !failure.value && (
        <p class="quiet-text empty">
          {isSearch
            ? "No recording has these words in its title, name or tags."
            : "What you record or send is listed here."}
        </p>
      )}
      {hasMore.value && (
        <button type="button" class="more" disabled={isLoading.value} onClick={() => void loadLibrary({ more: true })}>
          Show more
        </button>
      )}
    </section>
  );
}

function Finder(): JSX.Element {
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  const search = (text: string): void => {
    searchText.value = text;
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      void loadLibrary().then(() => say(`${count(total.value, "recording")} found`));
    }, 250);
  };
  return (
    <search class="finder">
      <label class="search-field">
        <span class="unseen">Search</span>
        <Icon of="search" />
        <input
          id="search"
          type="search"
          placeholder="Search titles, names and tags"
          value={searchText.value}
          onInput={({ currentTarget }) => search(currentTarget.value)}
        />
      </label>
      <label>
        <span class="unseen">Order</span>
        <select
          value={order.value}
          onChange={({ currentTarget }) => {
            order.value = currentTarget.value as RecordOrderField;
            void loadLibrary();
          }}
        >
          {orders.map(([field, words]) => (
            <option key={field} value={field}>
              {words}
            </option>
          ))}
        </select>
      </label>
    </search>
  );
}

function Row({
  record,
  onShare,
  onRemove,
}: {
  record: RowFragment;
  onShare: () => void;
  onRemove: () => void;
}): JSX.Element {
  const [isRenaming, setRenaming] = useState(false);
  const { id, title, durationSeconds, createdAt, visibility, peaks } = record;
  const isCurrent = playing.value?.id === id;
  const isSounding = isCurrent && !isPaused.value;
  const played = isCurrent && durationSeconds > 0 ? position.value / durationSeconds : 0;
  const isPrivate = visibility === "PRIVATE";
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.target instanceof HTMLInputElement) return;
    if (event.key === "F2") setRenaming(true);
    else if (event.key === "Delete") onRemove();
    else return;
    event.preventDefault();
  };
  return (
    // oxlint-disable-next-line jsx-a11y/no-noninteractive-element-interactions -- keys of the buttons in the row
    <li class={`row ${isCurrent ? "current" : ""}`} onKeyDown={onKeyDown}>
      <button
        type="button"
        class="round small"
        data-row-action="play"
        aria-label={`${isSounding ? "Pause" : "Play"} ${title}`}
        onClick={() => void togglePlay(record)}
      >
        <Icon of={isSounding ? "pause" : "play"} />
      </button>
      <div class="row-main">
        {isRenaming ? (
          <Rename record={record} onDone={() => setRenaming(false)} />
        ) : (
          <h3 class="row-title" title={title}>
            {title}
          </h3>
        )}
        <p class="quiet-text row-facts">
          <span class="time">{length(durationSeconds)}</span>
          <span>{moment(createdAt)}</span>
          <Findings record={record} />
        </p>
        <WaveForm peaks={peaks ?? []} played={played} />
      </div>
      <div class="row-actions">
        <button type="button" class="primary" aria-label={`Share ${title}`} onClick={onShare}>
          <Icon of="share" />
          Share
        </button>
        <button
          type="button"
          class="quiet visibility"
          aria-label={isPrivate ? `Private: ${title}. Make it public` : `Public: ${title}. Make it private`}
          title={isPrivate ? "Only you and the links that you make open it" : "Anyone who has the link can open it"}
          onClick={() => void changeRecord(id, { visibility: isPrivate ? "PUBLIC" : "PRIVATE" })}
        >
          <Icon of={isPrivate ? "lock" : "open"} />
          <span>{isPrivate ? "Private" : "Public"}</span>
        </button>
        <IconButton icon="edit" label={`Rename ${title}`} onClick={() => setRenaming(true)} />
        {!isPrivate && (
          <a class="bare" href={ownPath(record.url)} download aria-label={`Download ${title}`} title="Download the MP3">
            <Icon of="download" />
          </a>
        )}
        <IconButton icon="trash" label={`Delete ${title}`} onClick={onRemove} />
      </div>
    </li>
  );
}

/** What is worth knowing about the sound, in words. */
function Findings({ record: { warnings, loudness } }: { record: RowFragment }): JSX.Element {
  const quiet =
    warnings.includes("SILENT") || warnings.includes("CLIPPED") ? undefined : loudnessWords(loudness?.integratedLufs);
  const found = [
    ...warnings.map((warning) => warningWords[warning] as { short: string; long: string } | undefined),
    quiet,
  ];
  return (
    <>
      {found.map(
        (words) =>
          words && (
            <span key={words.short} class="finding" title={words.long}>
              {words.short}
              <span class="unseen">. {words.long}</span>
            </span>
          ),
      )}
    </>
  );
}

function Rename({ record: { id, title }, onDone }: { record: RowFragment; onDone: () => void }): JSX.Element {
  const input = useRef<HTMLInputElement>(null);
  const row = useRef<HTMLElement | null>(null);
  // At once: what is typed next belongs here.
  useLayoutEffect(() => {
    row.current = input.current?.closest("li") ?? null;
    input.current?.focus();
    input.current?.select();
  }, []);
  const end = (): void => {
    onDone();
    row.current?.querySelector<HTMLElement>("[data-row-action=play]")?.focus();
  };
  const save = async (): Promise<void> => {
    const next = input.current?.value.trim() ?? "";
    if (next === "" || next === title || (await changeRecord(id, { title: next }))) end();
  };
  return (
    <form
      class="rename"
      onSubmit={(event) => {
        event.preventDefault();
        void save();
      }}
    >
      <input
        ref={input}
        aria-label="Title"
        maxLength={1000}
        defaultValue={title}
        onKeyDown={(event) => {
          if (event.key === "Escape") end();
        }}
      />
      <button type="submit">Save</button>
      <button type="button" class="quiet" onClick={end}>
        Cancel
      </button>
    </form>
  );
}
