import { recall, remember } from "../remembered.ts";

/** The keys of the page, as its list of keys shows them. */
export const keys: readonly [keys: string, does: string][] = [
  ["R", "record"],
  ["Space", "stop recording; otherwise play or pause"],
  ["P", "pause or resume the recording"],
  ["/", "search"],
  ["← →", "on the waveform: 5 seconds; with Shift: 1 second"],
  ["Page Up, Page Down", "on the waveform: 30 seconds"],
  ["Home, End, 0 to 9", "on the waveform: beginning, end, tenths"],
  ["F2", "on a recording: rename"],
  ["Delete", "on a recording: delete, with undo"],
  ["Ctrl Z", "undo, as long as a message offers it"],
  ["?", "this list"],
];

/** Whether single keys do something (WCAG 2.1.4 asks for a switch). */
export function singleKeysAreOn(): boolean {
  return recall("keys", true);
}

/** Switches single keys on or off. */
export function switchSingleKeys(isOn: boolean): void {
  remember("keys", isOn);
}

/** Calls `act` with each key that is pressed while no control and no dialog has the focus, and `undo` at Ctrl+Z. */
export function listenToKeys(act: (key: string) => boolean, undo: () => boolean): void {
  document.addEventListener("keydown", (event) => {
    const { target, key, altKey, ctrlKey, metaKey, shiftKey, isComposing, repeat } = event;
    // A field has an undo of its own.
    const isField = target instanceof Element && target.matches("input:not([type=checkbox])");
    if ((ctrlKey || metaKey) && !altKey && !shiftKey && key === "z" && !repeat && !isField && undo())
      event.preventDefault();
    if (altKey || ctrlKey || metaKey || isComposing || repeat || !singleKeysAreOn()) return;
    if (target !== document.body || document.querySelector("dialog[open]")) return;
    if (act(key)) event.preventDefault();
  });
}
