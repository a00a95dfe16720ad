import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { keys, singleKeysAreOn, switchSingleKeys } from "./keys.ts";
import { Dialog } from "./parts.tsx";

/** The keys of the page, and the switch for single keys. */
export function KeysDialog({ onClose }: { onClose: () => void }): JSX.Element {
  const [isOn, setOn] = useState(singleKeysAreOn());
  return (
    <Dialog title="Keyboard shortcuts" onClose={onClose}>
      <p>Single keys work when no button and no field has the focus; F2 and Delete, on a recording.</p>
      <dl class="keys">
        {keys.map(([key, does]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{does}</dd>
          </div>
        ))}
      </dl>
      <label class="check">
        <input
          type="checkbox"
          checked={isOn}
          onChange={({ currentTarget }) => {
            switchSingleKeys(currentTarget.checked);
            setOn(currentTarget.checked);
          }}
        />
        Use single-key shortcuts
      </label>
    </Dialog>
  );
}
