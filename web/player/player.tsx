import type { JSX } from "preact";
import { Icon, IconButton } from "../look/parts.tsx";
import { recordNow } from "../record-now.ts";
import { clock } from "../words.ts";
import {
  habits,
  isLoading,
  isPaused,
  playing,
  position,
  rates,
  seek,
  setEven,
  setRate,
  stopPlaying,
  togglePlay,
  trouble,
} from "./player.ts";
import { WaveForm } from "./wave-form.tsx";

/** The recording that plays, at the foot of the page. */
export function Player(): JSX.Element | null {
  const record = playing.value;
  if (!record) return null;
  const { title } = recordNow(record);
  const { rate, isEven } = habits.value;
  const name = isPaused.value ? "Play" : "Pause";
  const close = (): void => {
    stopPlaying();
    document.querySelector<HTMLElement>(`[data-row="${record.id}"]`)?.focus();
  };
  return (
    <section class="player" aria-label="Player">
      <button type="button" class="round" aria-label={`${name} ${title}`} onClick={() => void togglePlay()}>
        {isLoading.value ? <span class="spinner" /> : <Icon of={isPaused.value ? "play" : "pause"} />}
      </button>
      <div class="player-main">
        <div class="player-title">
          <strong>{title}</strong>
          <span class="time">
            {clock(position.value)} / {clock(record.durationSeconds)}
          </span>
        </div>
        {trouble.value && <p class="error-text">{trouble.value}</p>}
        <Slider />
      </div>
      <div class="player-more">
        <label>
          <span class="unseen">Speed</span>
          <select value={rate} onChange={({ currentTarget }) => setRate(Number(currentTarget.value))}>
            {rates.map((one) => (
              <option key={one} value={one}>
                {one}×
              </option>
            ))}
          </select>
        </label>
        <label class="check" title="Quiet recordings play as loud as the others: at −18 LUFS">
          <input type="checkbox" checked={isEven} onChange={({ currentTarget }) => setEven(currentTarget.checked)} />
          Normalize volume
        </label>
        <IconButton icon="close" label="Close the player" onClick={close} />
      </div>
    </section>
  );
}

/** The waveform as a slider: with the mouse, with fingers and with keys. */
function Slider(): JSX.Element {
  const { title, durationSeconds, peaks } = recordNow(playing.value!);
  const at = position.value;
  const seekTo = (event: PointerEvent & { currentTarget: HTMLElement }): void => {
    const { left, width } = event.currentTarget.getBoundingClientRect();
    seek(((event.clientX - left) / width) * durationSeconds);
  };
  return (
    <div
      class="slider"
      // oxlint-disable-next-line jsx-a11y/prefer-tag-over-role -- the waveform is the slider
      role="slider"
      tabIndex={0}
      aria-label={`Position in ${title}`}
      aria-valuemin={0}
      aria-valuemax={Math.round(durationSeconds * 10) / 10}
      aria-valuenow={Math.round(at * 10) / 10}
      aria-valuetext={`${clock(at)} of ${clock(durationSeconds)}`}
      onPointerDown={(event) => {
        event.currentTarget.setPointerCapture(event.pointerId);
        seekTo(event);
      }}
      onPointerMove={(event) => {
        if (event.currentTarget.hasPointerCapture(event.pointerId)) seekTo(event);
      }}
      onKeyDown={(event) => {
        const to = placeOfKey(event, at, durationSeconds);
        if (to === "toggle") void togglePlay();
        else if (to !== undefined) seek(to);
        if (to !== undefined) event.preventDefault();
      }}
    >
      <WaveForm peaks={peaks ?? []} played={durationSeconds > 0 ? at / durationSeconds : 0} />
    </div>
  );
}

function placeOfKey(
  { key, shiftKey, altKey, ctrlKey, metaKey }: KeyboardEvent,
  at: number,
  duration: number,
): number | "toggle" | undefined {
  if (altKey || ctrlKey || metaKey) return undefined;
  const step = shiftKey ? 1 : 5;
  if (key === "ArrowLeft" || key === "ArrowDown") return at - step;
  if (key === "ArrowRight" || key === "ArrowUp") return at + step;
  if (key === "PageUp") return at + 30;
  if (key === "PageDown") return at - 30;
  if (key === "Home") return 0;
  if (key === "End") return duration;
  if (/^\d$/.test(key)) return (Number(key) / 10) * duration;
  return key === " " || key === "Enter" ? "toggle" : undefined;
}
