import type { JSX } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { keyIsRefused } from "../account/account.ts";
import type { RecordOrderField, RowFragment, Visibility } from "../api/operations.ts";
import { notify, say } from "../look/notices.ts";
import { Icon, IconButton } from "../look/parts.tsx";
import { address, isPaused, ownPath, playing, position, stopPlaying, togglePlay } from "../player/player.ts";
import { WaveForm } from "../player/wave-form.tsx";
import { count, length, loudnessWords, moment, warningWords } from "../words.ts";
import {
  changeRecord,
  changeVisibility,
  failure,
  hasMore,
  isLoading,
  loadLibrary,
  order,
  records,
  removeRecords,
  searchText,
  sentenceOf,
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
  const [chosen, setChosen] = useState<ReadonlySet<string> | undefined>(undefined);
  const remove = (removed: readonly RowFragment[], index: number): void => {
    for (const { id } of removed) stopPlaying(id);
    removeRecords(removed);
    // Focus goes to the row that takes its place.
    requestAnimationFrame(() => {
      const buttons = list.current?.querySelectorAll<HTMLElement>("[data-row-action=play]");
      (buttons?.[Math.min(index, buttons.length - 1)] ?? document.querySelector<HTMLElement>("#search"))?.focus();
    });
  };
  const choose = (id: string): void => {
    const next = new Set(chosen);
    if (!next.delete(id)) next.add(id);
    setChosen(next);
  };
  const chooseAll = (): void => {
    setChosen(new Set(records.value.map(({ id }) => id)));
    say(`${records.value.length} selected`);
  };
  const removeChosen = (): void => {
    remove(
      records.value.filter(({ id }) => chosen?.has(id)),
      0,
    );
    setChosen(undefined);
  };
  return (
    <section class="card library" aria-labelledby="library-title">
      <div class="card-head">
        <h2 id="library-title">
          Your recordings {total.value > 0 && <span class="quiet-text">{total.value.toLocaleString()}</span>}
        </h2>
        {records.value.length > 1 && !chosen && (
          <button type="button" onClick={() => setChosen(new Set())}>
            Select
          </button>
        )}
      </div>
      {chosen && (
        <div class="buttons selection">
          <span>{chosen.size} selected</span>
          <button type="button" onClick={chooseAll}>
            Select all shown
          </button>
          <button type="button" disabled={chosen.size === 0} onClick={removeChosen}>
            <Icon of="trash" />
            Delete
          </button>
          <button type="button" onClick={() => setChosen(undefined)}>
            Cancel
          </button>
        </div>
      )}
      {(!isEmpty || isSearch || failure.value) && <Finder />}
      {failure.value && !keyIsRefused.value && (
        <p class="error-text">
          {isSearch ? "The search did not work." : "The list could not be loaded."} {failure.value}{" "}
          <button type="button" onClick={() => void find()}>
            Try again
          </button>
        </p>
      )}
      <ul class="rows" ref={list} aria-busy={isLoading.value}>
        {records.value.map((record, index) => (
          <Row
            key={record.id}
            record={record}
            isChosen={chosen?.has(record.id)}
            onChoose={() => choose(record.id)}
            onShare={() => onShare(record)}
            onRemove={() => (chosen ? removeChosen() : remove([record], index))}
          />
        ))}
      </ul>
      {isEmpty && !isLoading.value && !failure.value && (
        <p class="quiet-text empty">
          {isSearch
            ? "No recording has these words in its title, file name or tags."
            : "What you record or send is listed here."}
        </p>
      )}
      {hasMore.value && (
        <button
          type="button"
          class="more"
          aria-disabled={isLoading.value}
          onClick={() => void (isLoading.value || loadLibrary({ more: true }))}
        >
          Show more
        </button>
      )}
    </section>
  );
}

/** Loads the list, and says what was found. */
async function find(): Promise<void> {
  await loadLibrary();
  say(failure.value ? `The search did not work. ${failure.value}` : `${count(total.value, "recording")} found`);
}

function Finder(): JSX.Element {
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  const search = (text: string): void => {
    searchText.value = text;
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      void find();
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
          placeholder="Title, file name or tag"
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
  isChosen,
  onChoose,
  onShare,
  onRemove,
}: {
  record: RowFragment;
  /** Undefined while no recordings are being chosen. */
  isChosen: boolean | undefined;
  onChoose: () => void;
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
    const isElsewhere = event.target instanceof Element && event.target.closest("form") !== null;
    // A key that is held would delete one recording after the other.
    if (isElsewhere || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "F2") setRenaming(true);
    else if (event.key === "Delete") onRemove();
    else return;
    event.preventDefault();
  };
  return (
    // oxlint-disable-next-line jsx-a11y/no-noninteractive-element-interactions -- keys of the buttons in the row
    <li class={`row ${isCurrent ? "current" : ""}`} onKeyDown={onKeyDown}>
      {isChosen === undefined ? (
        <button
          type="button"
          class="round small"
          data-row-action="play"
          data-row={id}
          aria-label={`${isSounding ? "Pause" : "Play"} ${title}`}
          onClick={() => void togglePlay(record)}
        >
          <Icon of={isSounding ? "pause" : "play"} />
        </button>
      ) : (
        <label class="bare">
          <input type="checkbox" aria-label={`Select ${title}`} checked={isChosen} onChange={onChoose} />
        </label>
      )}
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
          {isPrivate && <span class="narrow">Private</span>}
          <Findings record={record} />
        </p>
        <WaveForm peaks={peaks ?? []} played={played} />
      </div>
      <div class="row-actions" hidden={isChosen !== undefined}>
        <button type="button" class="primary" aria-label={`Share ${title}`} onClick={onShare}>
          <Icon of="share" />
          Share
        </button>
        <select
          aria-label={`Who can open ${title}`}
          title={
            isPrivate ? "Only you and the links that you make open it" : "It is listed nowhere: only its link opens it"
          }
          value={visibility}
          onChange={({ currentTarget }) => void changeVisibility(record, currentTarget.value as Visibility)}
        >
          <option value="PUBLIC">Anyone with the link</option>
          <option value="PRIVATE">Private</option>
        </select>
        <IconButton icon="edit" label={`Rename ${title}`} onClick={() => setRenaming(true)} />
        {isPrivate ? (
          <IconButton icon="download" label={`Download ${title}`} onClick={() => void download(record)} />
        ) : (
          <a class="bare" href={ownPath(record.url)} download aria-label={`Download ${title}`} title="Download the MP3">
            <Icon of="download" />
          </a>
        )}
        <IconButton icon="trash" label={`Delete ${title}`} onClick={onRemove} />
      </div>
    </li>
  );
}

/** Saves the MP3 of a private recording: its address has to be asked for. */
async function download(record: RowFragment): Promise<void> {
  try {
    const link = document.createElement("a");
    link.href = `${await address.of(record)}?inline=0`;
    link.download = "";
    link.click();
  } catch (error) {
    notify(sentenceOf(error));
  }
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
      <button type="button" onClick={end}>
        Cancel
      </button>
    </form>
  );
}
