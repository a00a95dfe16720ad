import { signal } from "@preact/signals";
import type { RowFragment } from "../api/operations.ts";
import { notify } from "../look/notices.ts";
import { recordNow } from "../record-now.ts";
import { recall, remember } from "../remembered.ts";
import { clock } from "../words.ts";

/** Loudness of recordings that play at an even level, in LUFS. */
const evenLufs = -18;
/** Of how many recordings the place is remembered where somebody stopped listening. */
const mostLeft = 100;
/** Nearer to an end than this, in seconds, a recording begins again. */
const nearEnd = 10;

interface Habits {
  readonly rate: number;
  readonly isEven: boolean;
}

/** The recording that is in the player. */
export const playing = signal<RowFragment | undefined>(undefined);
export const isPaused = signal(true);
export const isLoading = signal(false);
export const position = signal(0);
/** Why the recording does not play, as a sentence. */
export const trouble = signal("");
export const habits = signal<Habits>({ rate: 1, isEven: true, ...recall<Partial<Habits>>("player", {}) });

export const rates = [0.75, 1, 1.25, 1.5, 2] as const;

/** Where a recording's MP3 is. The page sets it: private recordings need a signed address. */
export const address: { of: (record: RowFragment) => Promise<string> } = {
  of: async ({ streamUrl }) => ownPath(streamUrl),
};

/** The part of a link that counts here: behind a proxy, the page may have another host than the service's links. */
export function ownPath(link: string): string {
  const { pathname, search } = new URL(link);
  return pathname + search;
}

let audio: HTMLAudioElement | undefined;
/** Counts the requests to play: only the last one counts. */
let wish = 0;
/** Whether the element still has what played before: its position is not the one of the recording in the player. */
let isOpening = false;

function keepHabits(change: Partial<Habits>): void {
  habits.value = { ...habits.value, ...change };
  remember("player", habits.value);
}

function element(): HTMLAudioElement {
  if (audio) return audio;
  const made = new Audio();
  made.preload = "metadata";
  const show = (): void => {
    isPaused.value = made.paused;
    if (made.readyState > 0 && !isOpening) position.value = made.currentTime;
    if (Math.floor(position.value) % 5 === 0 || made.paused) keepLeft();
    isLoading.value = !made.paused && made.readyState < HTMLMediaElement.HAVE_FUTURE_DATA;
    tellSystem();
  };
  for (const event of ["play", "pause", "timeupdate", "seeked", "waiting", "playing", "ended", "ratechange"]) {
    made.addEventListener(event, show);
  }
  made.addEventListener("error", () => {
    isLoading.value = false;
    isPaused.value = true;
    trouble.value = navigator.onLine
      ? "This recording cannot be played now. The service may be away, or somebody has deleted it."
      : "You are offline. It plays when the network is back.";
  });
  takeSystemKeys();
  return (audio = made);
}

/** Where somebody stopped listening, in seconds, by recording; the latest last. */
function recallLeft(): [id: string, seconds: number][] {
  return recall<[string, number][]>("left", []);
}

/** Remembers the place in the recording that is in the player. */
function keepLeft(): void {
  const record = playing.value;
  if (!record) return;
  const at = Math.floor(position.value);
  const left = recallLeft().filter(([id]) => id !== record.id);
  if (at >= nearEnd && at <= record.durationSeconds - nearEnd) left.push([record.id, at]);
  remember("left", left.slice(-mostLeft));
}

/** Plays a recording, from where somebody stopped listening; the one that is in the player goes on, or pauses. */
export async function togglePlay(record = playing.value): Promise<void> {
  if (!record) return;
  if (record.id !== playing.value?.id) {
    const [, seconds] = recallLeft().find(([id]) => id === record.id) ?? ["", 0];
    if (seconds > 0)
      notify(`Resumed at ${clock(seconds)}.`, { label: "From the beginning", run: () => seek(0), focus: ".slider" });
    return await playFrom(record, seconds);
  }
  const shown = element();
  if (!shown.paused) return shown.pause();
  if (trouble.value || !shown.hasAttribute("src")) return await playFrom(record, position.value);
  await shown.play().catch(() => {});
}

async function playFrom(record: RowFragment, seconds: number): Promise<void> {
  const mine = (wish += 1);
  keepLeft();
  playing.value = record;
  position.value = seconds;
  trouble.value = "";
  isLoading.value = true;
  const shown = element();
  isOpening = true;
  shown.pause();
  try {
    const plain = await address.of(record);
    if (mine !== wish) return;
    isOpening = false;
    const even = habits.value.isEven ? `${plain.includes("?") ? "&" : "?"}loudness=${evenLufs}` : "";
    shown.src = plain + even;
    shown.playbackRate = habits.value.rate;
    if (seconds > 0) shown.currentTime = seconds;
    await shown.play();
  } catch (error) {
    // A newer wish interrupts play(); the element says what else goes wrong.
    if (mine === wish && !(error instanceof DOMException)) trouble.value = "This recording cannot be opened.";
    if (mine === wish) isLoading.value = false;
  }
}

/** Moves to a place in the recording, in seconds. */
export function seek(seconds: number): void {
  const record = playing.value;
  if (!record) return;
  const to = Math.min(Math.max(0, seconds), Math.max(0, record.durationSeconds - 0.05));
  position.value = to;
  if (audio?.hasAttribute("src")) audio.currentTime = to;
}

/** Plays faster or slower, at the same pitch. */
export function setRate(rate: number): void {
  keepHabits({ rate });
  if (audio) audio.playbackRate = rate;
}

/** Plays all recordings at the same loudness, or as they are. */
export function setEven(isEven: boolean): void {
  keepHabits({ isEven });
  const record = playing.value;
  if (record && audio && !audio.paused) void playFrom(record, audio.currentTime);
  else audio?.removeAttribute("src"); // the next play loads the other one
}

/** Takes a recording out of the player. */
export function stopPlaying(id?: string): void {
  if (id !== undefined && playing.value?.id !== id) return;
  wish += 1;
  isOpening = false;
  keepLeft();
  audio?.pause();
  audio?.removeAttribute("src");
  audio?.load();
  playing.value = undefined;
  isPaused.value = true;
}

/** Keys of headphones and lock screens. */
function takeSystemKeys(): void {
  if (!("mediaSession" in navigator)) return;
  const { mediaSession } = navigator;
  const by = (seconds: number) => () => seek(position.value + seconds);
  mediaSession.setActionHandler("play", () => void (isPaused.value && togglePlay()));
  mediaSession.setActionHandler("pause", () => audio?.pause());
  mediaSession.setActionHandler("seekbackward", by(-10));
  mediaSession.setActionHandler("seekforward", by(10));
  mediaSession.setActionHandler("seekto", ({ seekTime }) => seekTime !== undefined && seek(seekTime));
}

function tellSystem(): void {
  const record = playing.value;
  if (!("mediaSession" in navigator) || !record) return;
  const { title } = recordNow(record);
  if (navigator.mediaSession.metadata?.title !== title) navigator.mediaSession.metadata = new MediaMetadata({ title });
  const { durationSeconds: duration } = record;
  if (duration > 0) {
    const at = Math.min(position.value, duration);
    navigator.mediaSession.setPositionState({ duration, position: at, playbackRate: habits.value.rate });
  }
}
