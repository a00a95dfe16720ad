import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { currentAnswer } from "../api/current-answer.ts";
import type { LinkFragment, RowFragment } from "../api/operations.ts";
import { copyText } from "../clipboard.ts";
import { notify } from "../look/notices.ts";
import { Dialog, Icon, IconButton } from "../look/parts.tsx";
import { TheLink } from "../queue/queue-card.tsx";
import { recordNow } from "../record-now.ts";
import { count, day } from "../words.ts";
import { changeVisibility, sentenceOf } from "./library.ts";
import { pageOf } from "./addresses.ts";
import { expiries, linksOf, makeLink, revokeLink } from "./links.ts";

/** The link of a recording, and the share links that were made of it. */
export function ShareDialog({ record: given, onClose }: { record: RowFragment; onClose: () => void }): JSX.Element {
  const record = recordNow(given);
  const { id, title, visibility } = record;
  const [links, setLinks] = useState<readonly LinkFragment[] | undefined>(undefined);
  const [failure, setFailure] = useState("");
  const isPrivate = visibility === "PRIVATE";
  const attempt = async (work: () => Promise<void>): Promise<void> => {
    setFailure("");
    await work().catch((error: unknown) => setFailure(sentenceOf(error)));
  };
  const changes = useRef(0);
  const list = async (): Promise<void> =>
    setLinks(
      await currentAnswer(
        async () => await linksOf(id),
        () => changes.current,
      ),
    );
  useEffect(() => void attempt(list), [id]);
  return (
    <Dialog title={`Share “${title}”`} onClose={onClose}>
      {isPrivate ? (
        <p>This recording is private. Make a link below: it opens the recording until you revoke it.</p>
      ) : (
        <>
          <p>Anyone who has this link can listen.</p>
          <TheLink link={pageOf(record)} />
          <SystemShare title={title} link={pageOf(record)} />
        </>
      )}
      <label class="check">
        <input
          type="checkbox"
          checked={isPrivate}
          onChange={({ currentTarget }) => void changeVisibility(record, currentTarget.checked ? "PRIVATE" : "PUBLIC")}
        />
        Private: only the links below open it
      </label>
      <h3>Links that you can revoke</h3>
      <NewLink
        onMake={async (note, days) =>
          await attempt(async () => {
            const link = await makeLink(id, note, days);
            changes.current += 1;
            setLinks((before = []) => [link, ...before.filter(({ id }) => id !== link.id)]);
            const address = pageOf(link);
            notify((await copyText(address)) ? "The new link is copied." : "The new link is made.");
          })
        }
      />
      {failure && <p class="error-text">{failure}</p>}
      <ul class="links">
        {links?.map((link) => (
          <li key={link.id}>
            <div class="link-facts">
              <strong>{link.note ?? "Without a note"}</strong>
              <span class="quiet-text">
                {expiryWords(link.expiresAt)}, {count(link.downloads, "download")}
              </span>
            </div>
            <IconButton
              icon="copy"
              label={`Copy the link ${link.note ?? ""}`}
              onClick={() =>
                void copyText(pageOf(link)).then((done) => notify(done ? "The link is copied." : pageOf(link)))
              }
            />
            <button
              type="button"
              aria-label={`Revoke the link ${link.note ?? ""}`}
              onClick={() =>
                void attempt(async () => {
                  await revokeLink(link.id);
                  changes.current += 1;
                  setLinks((before) => before?.filter((one) => one.id !== link.id));
                  notify("The link is revoked. It opens nothing any more.");
                })
              }
            >
              Revoke
            </button>
          </li>
        ))}
      </ul>
    </Dialog>
  );
}

function expiryWords(expiresAt: string | null): string {
  if (expiresAt === null) return "works until you revoke it";
  return Date.parse(expiresAt) <= Date.now() ? `expired on ${day(expiresAt)}` : `expires on ${day(expiresAt)}`;
}

/** The share sheet of the system, where there is one. */
function SystemShare({ title, link }: { title: string; link: string }): JSX.Element | null {
  const { share } = navigator as { share?: Navigator["share"] };
  if (!share) return null;
  return (
    <button type="button" onClick={() => void navigator.share({ title, url: link }).catch(() => {})}>
      <Icon of="share" />
      Send with an app
    </button>
  );
}

function NewLink({ onMake }: { onMake: (note: string, days: number) => Promise<void> }): JSX.Element {
  const note = useRef<HTMLInputElement>(null);
  const [days, setDays] = useState(0);
  const [isBusy, setBusy] = useState(false);
  const make = async (): Promise<void> => {
    if (isBusy) return;
    setBusy(true);
    await onMake(note.current?.value ?? "", days);
    if (note.current) note.current.value = "";
    setBusy(false);
  };
  return (
    <form
      class="new-link"
      onSubmit={(event) => {
        event.preventDefault();
        void make();
      }}
    >
      <label class="field">
        Note, such as who gets it
        <input ref={note} maxLength={200} />
      </label>
      <label class="field">
        Works
        <select value={days} onChange={({ currentTarget }) => setDays(Number(currentTarget.value))}>
          {expiries.map(([value, words]) => (
            <option key={value} value={value}>
              {words}
            </option>
          ))}
        </select>
      </label>
      <button type="submit" class="primary" aria-disabled={isBusy}>
        Make a link
      </button>
    </form>
  );
}
