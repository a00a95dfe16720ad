import { signal } from "@preact/signals";
import { recall, remember } from "../remembered.ts";

/** What a person has chosen for recording. It is remembered. */
export interface Choices {
  readonly deviceId: string;
  /** Its name: browsers change the ids. */
  readonly deviceLabel: string;
  readonly stereo: boolean;
  /** Echo cancellation, noise suppression and automatic level, which are made for calls and harm music. */
  readonly processing: boolean;
}

const none: Choices = { deviceId: "", deviceLabel: "", stereo: false, processing: false };

/** The choices for the next take. */
export const choices = signal<Choices>({ ...none, ...recall<Partial<Choices>>("microphone", {}) });

/** The microphones that the browser names; it names them once it may use one. */
export const microphones = signal<readonly MediaDeviceInfo[]>([]);

/** Remembers a choice. */
export function choose(change: Partial<Choices>): void {
  choices.value = { ...choices.value, ...change };
  remember("microphone", choices.value);
}

/** Looks which microphones there are, now and whenever one comes or goes. */
export async function watchMicrophones(): Promise<void> {
  const devices = navigator.mediaDevices as MediaDevices | undefined;
  if (!devices) return;
  devices.addEventListener("devicechange", () => void listMicrophones());
  await listMicrophones();
}

/** Looks which microphones there are. */
export async function listMicrophones(): Promise<void> {
  const all = await navigator.mediaDevices.enumerateDevices().catch(() => []);
  microphones.value = all.filter(({ kind, label, deviceId }) => kind === "audioinput" && label && deviceId);
}

/**
 * Opens the chosen microphone, or the usual one if that is not there.
 * @throws {DOMException} NotAllowedError, NotFoundError or NotReadableError, as getUserMedia does
 */
export async function openMicrophone(): Promise<{ stream: MediaStream; isOther: boolean }> {
  const { deviceId, deviceLabel, stereo, processing } = choices.value;
  const chosen =
    microphones.value.find((m) => m.deviceId === deviceId) ?? microphones.value.find((m) => m.label === deviceLabel);
  const constraints: MediaTrackConstraints = {
    echoCancellation: processing,
    noiseSuppression: processing,
    autoGainControl: processing,
    channelCount: { ideal: stereo ? 2 : 1 },
  };
  const wanted = chosen?.deviceId ?? deviceId;
  if (wanted) {
    try {
      const audio = { ...constraints, deviceId: { exact: wanted } };
      return { stream: await navigator.mediaDevices.getUserMedia({ audio }), isOther: false };
    } catch (error) {
      if (!(error instanceof DOMException && ["OverconstrainedError", "NotFoundError"].includes(error.name)))
        throw error;
    }
  }
  return { stream: await navigator.mediaDevices.getUserMedia({ audio: constraints }), isOther: Boolean(wanted) };
}
