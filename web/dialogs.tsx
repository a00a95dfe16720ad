import type { JSX } from "preact";
import { AccountDialog } from "./account/account-dialog.tsx";
import { InvitationDialog, OfferedKey } from "./account/key-dialogs.tsx";
import type { RowFragment } from "./api/operations.ts";
import { ShareDialog } from "./library/share-dialog.tsx";
import { KeysDialog } from "./look/keys-dialog.tsx";
import { offeredKey, service } from "./start.ts";

/** What a person has opened over the page. */
export type Opened = { readonly what: "account" | "keys" } | { readonly what: "share"; readonly record: RowFragment };

/** The dialogs. Few visitors need one before their first link, so they are loaded with the first that is opened. */
export function Dialogs({
  opened,
  onClose,
  onInvitation,
}: {
  opened: Opened | undefined;
  onClose: () => void;
  /** Takes an invitation, or undefined for none; absent if nobody waits for one. */
  onInvitation: ((code: string | undefined) => void) | undefined;
}): JSX.Element {
  return (
    <>
      {opened?.what === "account" && <AccountDialog onClose={onClose} />}
      {opened?.what === "keys" && <KeysDialog onClose={onClose} />}
      {opened?.what === "share" && <ShareDialog record={opened.record} onClose={onClose} />}
      {offeredKey.value && <OfferedKey token={offeredKey.value} onDone={() => (offeredKey.value = undefined)} />}
      {onInvitation && <InvitationDialog isInvite={service.value?.registration !== "CLOSED"} onDone={onInvitation} />}
    </>
  );
}
