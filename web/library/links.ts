import { callAsUser } from "../account/account.ts";
import { CreateLinkDocument, LinksDocument, RevokeLinkDocument, type LinkFragment } from "../api/operations.ts";

/** For how long a new share link opens, in days; 0: until it is revoked. */
export const expiries = [
  [0, "until I revoke it"],
  [1, "for a day"],
  [7, "for a week"],
  [30, "for a month"],
] as const;

/** The share links of a recording. */
export async function linksOf(recordId: string): Promise<readonly LinkFragment[]> {
  const { record } = await callAsUser(LinksDocument, { id: recordId });
  return record?.links ?? [];
}

/** Makes a share link. */
export async function makeLink(recordId: string, note: string, days: number): Promise<LinkFragment> {
  const expiresAt = days === 0 ? null : new Date(Date.now() + days * 86_400_000).toISOString();
  const { createLink } = await callAsUser(CreateLinkDocument, { recordId, note: note.trim() || null, expiresAt });
  return createLink!.link;
}

/** Revokes a share link. */
export async function revokeLink(id: string): Promise<void> {
  await callAsUser(RevokeLinkDocument, { id });
}
