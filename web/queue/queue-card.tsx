import type { ComponentChildren, JSX } from "preact";
import type { RowFragment } from "../api/operations.ts";
import { copyText } from "../clipboard.ts";
import { notify } from "../look/notices.ts";
import { Icon, IconButton } from "../look/parts.tsx";
import { isDeleted, recordNow } from "../record-now.ts";
import { clock, errorWords, length, size } from "../words.ts";
import { secondsLeft, type Queue, type QueuedFile } from "./queue.ts";
import { factWords } from "./wav-facts.ts";

/** The files that are being sent, and what became of them. */
export function QueueCard({
  queue,
  linkOf,
  onRemove,
  onShare,
}: {
  queue: Queue;
  linkOf: (record: RowFragment) => string;
  onRemove: (file: QueuedFile) => void;
  onShare: (record: RowFragment) => void;
}): JSX.Element | null {
  const files = queue.files.value;
  if (files.length === 0) return null;
  const failed = files.filter(({ place }) => place === "failed" || place === "paused").length;
  const done = files.filter(({ place }) => place === "stored" || place === "refused");
  return (
    <section class="card" aria-labelledby="queue-title">
      <div class="card-head">
        <h2 id="queue-title">Uploads</h2>
        {failed > 1 && (
          <button type="button" onClick={() => queue.retryAll()}>
            Try all again
          </button>
        )}
        {done.length > 0 && (
          <button type="button" onClick={() => done.forEach(onRemove)}>
            Clear the list
          </button>
        )}
      </div>
      <ul class="queue">
        {files.map((file) => (
          <Row key={file.key} file={file} queue={queue} onRemove={() => onRemove(file)}>
            {file.stored && !isDeleted(file.stored.record) && (
              <Outcome record={recordNow(file.stored.record)} linkOf={linkOf} onShare={onShare} />
            )}
          </Row>
        ))}
      </ul>
    </section>
  );
}

function Row({
  file,
  queue,
  onRemove,
  children,
}: {
  file: QueuedFile;
  queue: Queue;
  onRemove: () => void;
  children: ComponentChildren;
}): JSX.Element {
  const { key, name, sizeBytes, place, facts, stored, isUnkept } = file;
  const about = [facts?.isWav ? factWords(facts, length) : "", size(sizeBytes)].filter(Boolean).join(", ");
  const isUnderWay = place === "sending" || place === "waiting";
  return (
    <li class={`queue-row ${place}`}>
      <div class="queue-head">
        <div class="queue-name">
          <strong title={name}>{stored ? recordNow(stored.record).title : name}</strong>
          <span class="quiet-text">{about}</span>
        </div>
        {isUnderWay && <IconButton icon="pause" label={`Pause ${name}`} onClick={() => queue.pause(key)} />}
        {place !== "finishing" && <IconButton icon="close" label={`Remove ${name} from the list`} onClick={onRemove} />}
      </div>
      <p class={place === "failed" || place === "refused" ? "error-text" : "quiet-text"}>{placeWords(file)}</p>
      {isUnkept && place !== "stored" && (
        <p class="quiet-text">The browser cannot keep this file: leave the page open until it is sent.</p>
      )}
      {(place === "sending" || place === "finishing") && <Progress file={file} />}
      {children}
      {(place === "failed" || place === "paused" || (place === "waiting" && file.code !== undefined)) && (
        <div class="buttons">
          <button type="button" onClick={() => queue.retry(key)}>
            <Icon of="retry" />
            {place === "paused" ? "Resume" : "Try again"}
          </button>
        </div>
      )}
    </li>
  );
}

/** What a person wants when a file is stored: its link. A private recording gets one only when they ask for it. */
function Outcome({
  record,
  linkOf,
  onShare,
}: {
  record: RowFragment;
  linkOf: (record: RowFragment) => string;
  onShare: (record: RowFragment) => void;
}): JSX.Element {
  if (record.visibility === "PUBLIC") return <TheLink link={linkOf(record)} />;
  return (
    <div class="buttons">
      <button type="button" class="primary" aria-label={`Share ${record.title}`} onClick={() => onShare(record)}>
        <Icon of="share" />
        Share
      </button>
    </div>
  );
}

/** The link of a recording, ready to be copied. */
export function TheLink({ link }: { link: string }): JSX.Element {
  const copy = async (): Promise<void> =>
    void notify(
      (await copyText(link)) ? "The link is copied." : "This browser does not copy. Select the link and copy it.",
    );
  return (
    <div class="the-link">
      <input readOnly aria-label="Link" value={link} onFocus={({ currentTarget }) => currentTarget.select()} />
      <button type="button" class="primary" onClick={() => void copy()}>
        <Icon of="copy" />
        Copy
      </button>
    </div>
  );
}

function Progress({ file: { name, place, sentBytes, sizeBytes } }: { file: QueuedFile }): JSX.Element {
  if (place === "finishing") return <div class="finishing" />;
  return <progress aria-label={`Sending ${name}`} max={sizeBytes} value={sentBytes} />;
}

function placeWords(file: QueuedFile): string {
  const { place, code, message, sentBytes, hadBytes, sizeBytes, since, stored, facts } = file;
  switch (place) {
    case "waiting":
      return code === undefined ? "Waiting for its turn." : reason(code, message);
    case "sending": {
      const isBusy = performance.now() - since > 2000;
      if (sentBytes === hadBytes) return isBusy ? "The service is busy. It takes the file in a moment." : "Sending…";
      const percent = Math.floor((100 * sentBytes) / Math.max(1, sizeBytes));
      const left = secondsLeft(file) ?? 0;
      return `Sending and converting: ${percent} %${left >= 1 ? `, ${clock(left)} left` : ""}`;
    }
    case "finishing":
      return "Finishing…";
    case "stored":
      if (stored && isDeleted(stored.record)) return "It was deleted.";
      if (stored?.created === false) return "It was already there.";
      return stored && recordNow(stored.record).visibility === "PRIVATE"
        ? "Stored. Only you can open it."
        : "Stored. Anyone with this link can listen:";
    case "paused":
      return "Paused. Resume continues where it stopped.";
    case "refused":
      return facts?.isWav === false ? `This is ${facts.what}. Only WAV files can be sent.` : (message ?? "");
    default:
      return reason(code ?? "INTERNAL_SERVER_ERROR", message);
  }
}

/** Our sentence says what to do; the service's own one names limits and numbers. */
function reason(code: string, message = ""): string {
  const ours = errorWords[code];
  if (ours === undefined) return message;
  return code === "QUOTA_EXCEEDED" ? `${ours} ${message}` : ours;
}
