const stops = "button, a[href], input, select, summary, [tabindex='0']";

/** Where the focus of somebody who uses keys is: the element, what it is in, and what comes after each of these. */
type Place = readonly { readonly node: Element; readonly after: readonly Element[] }[];

/**
 * Keeps the focus of people who use keys near its place when what has it goes away, such as a row that is deleted.
 * Otherwise the next Tab would begin at the top of the page.
 */
export function keepFocus(): void {
  let place: Place | undefined;
  document.addEventListener("focusin", ({ target }) => {
    place = target instanceof Element && target.matches(":focus-visible") ? placeOf(target) : undefined;
  });
  // Whoever points somewhere has left it.
  document.addEventListener("pointerdown", () => (place = undefined), true);
  new MutationObserver(() => {
    if (!place || place[0]?.node.isConnected || document.activeElement !== document.body) return;
    const left = place;
    place = undefined;
    nearestStop(left)?.focus();
  }).observe(document.body, { childList: true, subtree: true });
}

function placeOf(element: Element): Place {
  const place = [];
  for (let node: Element | null = element; node; node = node.parentElement)
    place.push({ node, after: followers(node) });
  return place;
}

function followers(node: Element): Element[] {
  const siblings = [...(node.parentElement?.children ?? [])];
  return siblings.slice(siblings.indexOf(node) + 1);
}

/** The next control in the innermost part of the page that is left and has one, or else the last control before. */
function nearestStop(place: Place): HTMLElement | undefined {
  for (const [at, { node, after }] of place.entries()) {
    // A dialog gives the focus back itself.
    if (!node.isConnected && node.matches("dialog")) return undefined;
    const around = place[at + 1]?.node;
    if (!around?.isConnected) continue;
    const found = [...around.querySelectorAll<HTMLElement>(stops)].filter(
      (stop) => !stop.matches(":disabled, [tabindex='-1']") && stop.checkVisibility(),
    );
    const next = (node.isConnected ? followers(node) : after).find((one) => one.isConnected);
    const isBehind = (stop: Element): boolean =>
      next !== undefined && (next.compareDocumentPosition(stop) & Node.DOCUMENT_POSITION_PRECEDING) === 0;
    const stop = found.find(isBehind) ?? found.at(-1);
    if (stop) return stop;
  }
  return undefined;
}
