import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { length, moment } from "../words.ts";
import type { Take } from "./takes.ts";

/** Takes of an earlier visit that were not stored: after a crash, or without a network. */
export function FoundTakes({
  takes,
  onUpload,
  onThrowAway,
}: {
  takes: readonly Take[];
  onUpload: (take: Take) => void;
  onThrowAway: (take: Take) => void;
}): JSX.Element | null {
  if (takes.length === 0) return null;
  return (
    <section class="card found" aria-label="Takes that were found on this device">
      {takes.map((take) => (
        <div class="found-take" key={take.name}>
          <p>
            <strong>A take of {length(take.seconds)} was found.</strong> It was recorded {moment(take.startedAt)} and
            has not been uploaded.
          </p>
          <Listen file={take.file} />
          <div class="buttons">
            <button type="button" class="primary" onClick={() => onUpload(take)}>
              Upload
            </button>
            <button type="button" onClick={() => onThrowAway(take)}>
              Discard
            </button>
          </div>
        </div>
      ))}
    </section>
  );
}

function Listen({ file }: { file: Blob }): JSX.Element {
  const [url, setUrl] = useState("");
  useEffect(() => {
    const made = URL.createObjectURL(file);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [file]);
  // oxlint-disable-next-line jsx-a11y/media-has-caption -- nobody has written down what was just recorded
  return <audio controls src={url} aria-label="Listen to the take" />;
}
