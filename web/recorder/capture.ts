/** What the page tells the audio thread. */
export type CaptureOrder =
  { readonly sink: MessagePort; readonly channels: number } | { readonly paused: boolean } | { readonly stop: true };

/** What the audio thread sends to the worker: 16-bit samples, interleaved, and what was noticed in them. */
export interface Block {
  readonly pcm: ArrayBuffer;
  /** Largest magnitude, 1 is full scale. */
  readonly peak: number;
  /** Number of samples at full scale. */
  readonly clipped: number;
  /** Number of frames that the audio thread did not get before these. */
  readonly lost: number;
  readonly last: boolean;
}

/** What the page tells the worker: which take to store, where to send it, or that no block will come any more. */
export type TakeOrder =
  | {
      readonly name: string;
      readonly sampleRateHz: number;
      readonly channels: number;
      readonly source: MessagePort;
    }
  | { readonly close: true }
  /** Send the take to this address while it is made. */
  | { readonly sendTo: string };

/** What the worker tells the page. */
export type TakeReport =
  | { readonly kind: "open"; readonly store: "file" | "database" }
  | {
      readonly kind: "level";
      readonly frames: number;
      readonly peak: number;
      readonly clipped: number;
      readonly lost: number;
    }
  /** Whether the take reaches the service while it is made. */
  | { readonly kind: "travels"; readonly isOn: boolean }
  | { readonly kind: "closed"; readonly frames: number }
  | { readonly kind: "failed"; readonly message: string };
