import { ownPath } from "../player/player.ts";

/** The page for listening that a recording or a share link has, with the host under which this page is open. */
export function pageOf({ listenUrl }: { readonly listenUrl: string }): string {
  return new URL(ownPath(listenUrl), location.href).href;
}
