import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "../api/client.ts";
import { currentAnswer } from "../api/current-answer.ts";
import { AddDeviceDocument, DevicesDocument, RevokeDeviceDocument, type DevicesQuery } from "../api/operations.ts";
import { sentenceOf } from "../library/library.ts";
import { notify } from "../look/notices.ts";
import { TheLink } from "../queue/queue-card.tsx";
import { day, moment } from "../words.ts";
import { callAsUser } from "./account.ts";
import { longestQrText } from "./qr-code.ts";
import { QrPicture } from "./qr-picture.tsx";

type Device = NonNullable<DevicesQuery["me"]["tokens"]>[number];

/** The keys of the account: each device can have its own, and lose it. */
export function Devices(): JSX.Element {
  const [devices, setDevices] = useState<readonly Device[] | undefined>(undefined);
  const [failure, setFailure] = useState("");
  const [link, setLink] = useState("");
  const name = useRef<HTMLInputElement>(null);
  const made = useRef<HTMLDivElement>(null);
  const changes = useRef(0);
  const load = async (): Promise<void> => {
    try {
      const { me } = await currentAnswer(
        async () => await callAsUser(DevicesDocument, {}),
        () => changes.current,
      );
      setDevices(me.tokens ?? []);
      setFailure("");
    } catch (error) {
      const isForbidden = error instanceof ApiError && error.code === "FORBIDDEN";
      setFailure(isForbidden ? "This device may record and share, but not manage devices." : sentenceOf(error));
    }
  };
  useEffect(() => void load(), []);
  useEffect(() => {
    made.current?.focus();
    made.current?.scrollIntoView();
  }, [link]);
  const add = async (): Promise<void> => {
    try {
      const { createToken } = await callAsUser(AddDeviceDocument, {
        name: name.current?.value.trim() || "Another device",
      });
      changes.current += 1;
      // The part after # stays in the browser: no server and no log sees it.
      setLink(new URL(`#t=${createToken!.token}`, document.baseURI).href);
      if (name.current) name.current.value = "";
      await load();
    } catch (error) {
      setFailure(sentenceOf(error));
    }
  };
  const revoke = async (device: Device): Promise<void> => {
    try {
      await callAsUser(RevokeDeviceDocument, { id: device.id });
      changes.current += 1;
      notify(`“${device.name}” can no longer use this account.`);
      setLink("");
      await load();
    } catch (error) {
      setFailure(sentenceOf(error));
    }
  };
  return (
    <section aria-labelledby="devices-title">
      <h3 id="devices-title">Devices</h3>
      {failure && <p class="quiet-text">{failure}</p>}
      {devices && (
        <>
          <form
            class="inline-form"
            onSubmit={(event) => {
              event.preventDefault();
              void add();
            }}
          >
            <label class="field">
              Add a device
              <input ref={name} maxLength={100} placeholder="My phone" />
            </label>
            <button type="submit">Create a link for it</button>
          </form>
          {link && (
            // It may be below the fold of the dialog.
            <div ref={made} class="made-link" tabIndex={-1}>
              <p>
                Scan the code with the device, or open the link there, once. It is shown only now, and whoever has it
                can use your account.
              </p>
              {link.length <= longestQrText && <QrPicture text={link} label="The link as a QR code" />}
              <TheLink link={link} />
            </div>
          )}
          <ul class="links">
            {devices.map((device) => (
              <li key={device.id}>
                <div class="link-facts">
                  <strong>{isRoot(device) && device.name === "first" ? "The first key" : device.name}</strong>
                  <span class="quiet-text">{useWords(device)}</span>
                </div>
                {!isRoot(device) && (
                  <button type="button" aria-label={`Revoke ${device.name}`} onClick={() => void revoke(device)}>
                    Revoke
                  </button>
                )}
              </li>
            ))}
          </ul>
        </>
      )}
    </section>
  );
}

/** Whether no other key made it: this page may be using it, and revoking it would revoke all that it made. */
function isRoot({ parentId }: Device): boolean {
  return parentId === null;
}

function useWords({ createdAt, lastUsedAt, expiresAt }: Device): string {
  const used = lastUsedAt === null ? "not used yet" : `last used ${moment(lastUsedAt)}`;
  return `since ${day(createdAt)}, ${used}${expiresAt === null ? "" : `, expires on ${day(expiresAt)}`}`;
}
