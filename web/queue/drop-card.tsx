import type { JSX } from "preact";
import { useRef } from "preact/hooks";
import { Icon } from "../look/parts.tsx";

/** Buttons that choose files or a folder. Files can also be dropped anywhere on the page, or pasted. */
export function DropCard({ onFiles, limits }: { onFiles: (files: File[]) => void; limits: string }): JSX.Element {
  const files = useRef<HTMLInputElement>(null);
  const folder = useRef<HTMLInputElement>(null);
  const chosen = (event: { currentTarget: HTMLInputElement }): void => {
    onFiles([...(event.currentTarget.files ?? [])]);
    event.currentTarget.value = "";
  };
  return (
    <section class="card drop" aria-labelledby="drop-title">
      <h2 id="drop-title">Or upload WAV files</h2>
      <p class="quiet-text">Drop files or folders anywhere on this page, paste them, or choose them. {limits}</p>
      <div class="buttons">
        <button type="button" onClick={() => files.current?.click()}>
          <Icon of="file" />
          Choose files
        </button>
        <button type="button" onClick={() => folder.current?.click()}>
          Choose a folder
        </button>
      </div>
      <input ref={files} type="file" multiple hidden aria-label="Files" onChange={chosen} />
      <input
        ref={(element) => {
          folder.current = element;
          element?.setAttribute("webkitdirectory", "");
        }}
        type="file"
        hidden
        aria-label="A folder"
        onChange={chosen}
      />
    </section>
  );
}
