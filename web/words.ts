import type { RecordWarning } from "./api/operations.ts";

/** A time as `0:31`, `4:07` or `1:02:03`. */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n: number): string => String(n).padStart(2, "0");
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** A long time in words, such as `12 hours` or `90 minutes`. */
export function longTime(seconds: number): string {
  if (seconds < 120) return count(seconds, "second");
  return seconds % 3600 === 0 ? count(seconds / 3600, "hour") : count(Math.floor(seconds / 60), "minute");
}

/** A length for people: `0.4 s` for the shortest sounds, otherwise as a clock shows it. */
export function length(seconds: number): string {
  return seconds < 1 ? `${seconds.toFixed(1)} s` : clock(seconds);
}

const units = ["bytes", "kB", "MB", "GB", "TB"];

/** A size as `3.4 MB`. */
export function size(bytes: number): string {
  const step = bytes < 1000 ? 0 : Math.min(Math.floor(Math.log10(bytes) / 3), units.length - 1);
  const value = bytes / 1000 ** step;
  return `${step > 0 && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[step]}`;
}

/** A moment as the reader's language writes it. */
export function moment(iso: string | number): string {
  return new Date(iso).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** A day as the reader's language writes it. */
export function day(iso: string): string {
  return new Date(iso).toLocaleDateString(undefined, { dateStyle: "medium" });
}

/** A number of things: `1 recording`, `3 recordings`. */
export function count(n: number, thing: string): string {
  return `${n.toLocaleString()} ${thing}${n === 1 ? "" : "s"}`;
}

/** A title in a short message: in quotes, and cut if it is long. */
export function quoted(title: string): string {
  return `“${title.replace(/^(.{39}).{2,}$/su, "$1…")}”`;
}

/** What a warning of the service means for the person who recorded. */
export const warningWords: Readonly<Record<RecordWarning, { short: string; long: string }>> = {
  CLIPPED: {
    short: "Too loud",
    long: "Parts were too loud for the recorder and are distorted. Record at a lower level.",
  },
  CUT_SHORT: {
    short: "Cut short",
    long: "The file ends earlier than it says. If you have the whole file, send it again.",
  },
  DAMAGED: { short: "Damaged", long: "Damaged parts of the file were left out." },
  MIXED_DOWN: { short: "Mixed to stereo", long: "The file has more than two channels. They were mixed to stereo." },
  RESAMPLED: {
    short: "Resampled",
    long: "MP3 does not have the file's sample rate. The sound was converted to one it has.",
  },
  RESCALED: { short: "Rescaled", long: "The samples were numbers in another range, and were scaled to the usual one." },
  SILENT: { short: "Silent", long: "There is only silence in it. Was the right microphone chosen, and not muted?" },
  SOUND_LEFT_OUT: {
    short: "Part left out",
    long: "A second recording of another format follows in the file. It was left out.",
  },
  TRAILING_JUNK: { short: "Extra bytes", long: "The file has bytes after the sound. They were left out." },
};

/** What a loudness means, if it is worth a word. */
export function loudnessWords(lufs: number | undefined): { short: string; long: string } | undefined {
  if (lufs === undefined) return undefined;
  const measured = `${Math.round(lufs)} LUFS`.replace("-", "−");
  if (lufs < -40) return { short: "Very quiet", long: `Very quiet (${measured}). Move closer to the microphone.` };
  if (lufs < -30)
    return {
      short: "Quiet",
      long: `Quiet (${measured}). “Normalize volume” in the player makes it as loud as the others.`,
    };
  if (lufs > -9)
    return {
      short: "Loud",
      long: `Very loud (${measured}). “Normalize volume” in the player makes it as loud as the others.`,
    };
  return undefined;
}

/** What a person can do about an error of the queue; for other codes, the service's own sentence is shown. */
export const errorWords: Readonly<Record<string, string>> = {
  BUSY: "The service is busy. The upload continues by itself.",
  DATABASE_UNAVAILABLE: "The service cannot reach its database. The upload continues by itself.",
  FORBIDDEN: "The key of this device does not allow this. Enter a key that does.",
  INTERNAL_SERVER_ERROR: "The service failed. Try again; if it fails again, tell its operator.",
  NETWORK: "The service cannot be reached. The upload continues when it is back.",
  QUOTA_EXCEEDED: "Your space is used up. Delete recordings, or ask the operator for more.",
  RATE_LIMITED: "Too many requests. The upload continues by itself.",
  REGISTRATION_CLOSED: "You need an invitation to use this service. Enter an invitation or a key.",
  SHUTTING_DOWN: "The service is restarting. The upload continues by itself.",
  STORAGE_FULL: "The service has no space left. Your file is kept here; try again later.",
  UNAUTHENTICATED: "The key of this device is no longer valid. Enter another key.",
  UNREADABLE: "The file cannot be read. It may have been changed or deleted; add it again.",
  USER_DISABLED: "The operator has disabled this account. Ask them about it.",
};
