import type { JSX } from "preact";
import { Icon } from "../look/parts.tsx";
import { clock } from "../words.ts";
import { choices, choose, microphones } from "./microphone.ts";
import {
  beginTest,
  endTest,
  format,
  lasting,
  level,
  pauseTake,
  phase,
  problem,
  remark,
  travels,
  type Problem,
} from "./recorder.ts";

const problemWords: Readonly<Record<Problem, { title: string; text: string }>> = {
  insecure: {
    title: "Recording needs https",
    text: "Browsers open a microphone only on an https address, or on localhost. Uploading and playing work here.",
  },
  unsupported: {
    title: "This browser cannot record",
    text: "It has no audio worklets. A current Chrome, Edge, Firefox or Safari can. Uploading and playing work here.",
  },
  denied: {
    title: "The microphone is blocked",
    text: "Allow it for this page: click the icon to the left of the address, and choose “Microphone: allow”. On a phone, also look at the browser's permissions in the settings. Then press Record again.",
  },
  "no microphone": {
    title: "No microphone was found",
    text: "Connect one, or switch it on, and press Record again.",
  },
  "microphone in use": {
    title: "The microphone does not answer",
    text: "Another app may be using it. Close that app, and press Record again.",
  },
  "not loaded": {
    title: "A part of the page did not load",
    text: "Check the network, reload the page, and press Record again.",
  },
  "no audio": {
    title: "This browser cannot start its audio",
    text: "Is a sound device connected? Connect one, and press Record again.",
  },
  "no room": {
    title: "This device has no room for more sound",
    text: "The browser could not store the take. What was stored before is kept. Free some space, and record again.",
  },
};

/** The button that records, the clock, and the level. */
export function RecorderCard({
  onRecord,
  onStop,
  onDiscard,
}: {
  onRecord: () => void;
  onStop: () => void;
  onDiscard: () => void;
}): JSX.Element {
  const now = phase.value;
  const isOn = now === "recording" || now === "paused";
  const isTest = now === "testing";
  const found = problem.value ?? (now === "idle" ? lasting() : undefined);
  const words = found && problemWords[found];
  const isImpossible = found === "insecure" || found === "unsupported";
  return (
    <section class={`card recorder ${now}`} aria-labelledby="record-title">
      <h2 id="record-title" class="unseen">
        Record
      </h2>
      <div class="recorder-main">
        <button
          type="button"
          id="record"
          class={`record ${isOn ? "on" : ""}`}
          aria-label={isOn ? "Stop" : "Record"}
          disabled={isImpossible}
          // Not disabled: it would lose the focus, and Enter would not stop what it began.
          aria-disabled={now === "asking" || now === "stopping"}
          onClick={isOn ? onStop : onRecord}
        >
          <span class="record-shape" />
        </button>
        <div class="recorder-state">
          <p class="clock">{clock(isTest ? 0 : level.value.seconds)}</p>
          <p class="state-words">{stateWords()}</p>
        </div>
        {isOn && (
          <div class="recorder-more">
            <button type="button" onClick={pauseTake}>
              <Icon of={now === "paused" ? "play" : "pause"} />
              {now === "paused" ? "Resume" : "Pause"}
            </button>
            <button type="button" onClick={onDiscard}>
              <Icon of="trash" />
              Discard
            </button>
          </div>
        )}
      </div>
      {isTest && (
        <div class="recorder-more">
          <button type="button" onClick={() => void endTest()}>
            End the test
          </button>
        </div>
      )}
      {(isOn || isTest) && <Meter />}
      {(isOn || isTest) && <Verdict />}
      {remark.value && <p class="warn-text">{remark.value}</p>}
      {words && (
        <div class="problem" role={isImpossible ? undefined : "alert"}>
          <strong>{words.title}</strong>
          <p>{words.text}</p>
        </div>
      )}
      {!isOn && !isTest && !isImpossible && <Settings />}
    </section>
  );
}

function stateWords(): string {
  switch (phase.value) {
    case "asking":
      return "Allow the microphone in the window that the browser shows.";
    case "testing":
      return "This is a test: nothing is recorded. Speak or play, and watch the level.";
    case "recording":
      return `Recording. ${format.value}. ${travels.value ? "It is sent while you record." : "It is sent after you stop."}`;
    case "paused":
      return "Paused. Resume continues the same recording.";
    case "stopping":
      return "Finishing the take…";
    default:
      return lasting() ? "" : "Press Record. Press it again to stop, and you get a link.";
  }
}

/** The level on a scale of decibels, from −60 to 0. */
function Meter(): JSX.Element {
  const { peak } = level.value;
  const decibels = peak > 0 ? Math.max(-60, 20 * Math.log10(peak)) : -60;
  return (
    <meter
      class="level"
      aria-label="Level of the microphone"
      min={-60}
      max={0}
      low={-40}
      high={-6}
      optimum={-20}
      value={phase.value === "paused" ? -60 : decibels}
    />
  );
}

/** Says in words what the level means. */
function Verdict(): JSX.Element {
  const { clipped, silentSeconds, lost } = level.value;
  const words =
    phase.value === "paused"
      ? ""
      : silentSeconds >= 2
        ? "I hear nothing. Is the microphone muted, or is the wrong one selected?"
        : clipped >= 3
          ? "Too loud: parts are distorted. Move away from the microphone, or turn it down."
          : "";
  return (
    <p class="verdict">
      <span class="warn-text">{words}</span>
      <span class="quiet-text" hidden={phase.value === "testing"}>
        {lost === 0 ? "0 samples lost" : `${lost.toLocaleString()} samples were lost: this device was too busy`}
      </span>
    </p>
  );
}

function Settings(): JSX.Element {
  const { deviceId, deviceLabel, stereo, processing } = choices.value;
  const list = microphones.value;
  const chosen = list.find((m) => m.deviceId === deviceId) ?? list.find((m) => m.label === deviceLabel);
  return (
    <details class="settings">
      <summary>Microphone: {chosen?.label ?? "default"}</summary>
      {list.length > 0 ? (
        <label class="field">
          Microphone
          <select
            value={chosen?.deviceId ?? ""}
            onChange={({ currentTarget }) => {
              const next = list.find((m) => m.deviceId === currentTarget.value);
              choose({ deviceId: next?.deviceId ?? "", deviceLabel: next?.label ?? "" });
            }}
          >
            <option value="">Default</option>
            {list.map((m) => (
              <option key={m.deviceId} value={m.deviceId}>
                {m.label}
              </option>
            ))}
          </select>
        </label>
      ) : (
        <p class="quiet-text">The list of microphones appears after the first recording or test.</p>
      )}

      <label class="check">
        <input
          type="checkbox"
          checked={stereo}
          onChange={({ currentTarget }) => choose({ stereo: currentTarget.checked })}
        />
        Stereo
      </label>
      <label class="check">
        <input
          type="checkbox"
          checked={processing}
          onChange={({ currentTarget }) => choose({ processing: currentTarget.checked })}
        />
        Process it like a phone call (echo, noise, automatic level): good for voices, bad for music
      </label>
      <button type="button" onClick={() => void beginTest()}>
        Test the microphone
      </button>
    </details>
  );
}
