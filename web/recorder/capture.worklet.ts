import type { Block, CaptureOrder } from "./capture.ts";

declare const currentFrame: number;
declare const registerProcessor: (name: string, processor: new () => AudioWorkletProcessor) => void;
declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}

const framesInBlock = 2048;

/** Runs on the audio thread: makes blocks of 16-bit samples, and sends them to the worker that stores them. */
class Capture extends AudioWorkletProcessor {
  #sink: MessagePort | undefined;
  #channels = 1;
  #block = new Int16Array(framesInBlock);
  #at = 0;
  #peak = 0;
  #clipped = 0;
  #lost = 0;
  /** The frame that must come next; -1 if any may. */
  #next = -1;
  #isPaused = false;
  #isOver = false;

  constructor() {
    super();
    this.port.addEventListener("message", ({ data }: MessageEvent<CaptureOrder>) => this.#obey(data));
    this.port.start();
  }

  process([input = []]: Float32Array[][]): boolean {
    if (this.#isOver) return false;
    const frames = input[0]?.length ?? 0;
    if (frames === 0 || !this.#sink) return true;
    if (this.#isPaused) {
      this.#next = -1;
      return true;
    }
    if (this.#next >= 0 && currentFrame !== this.#next) this.#lost += currentFrame - this.#next;
    this.#next = currentFrame + frames;
    for (let frame = 0; frame < frames; frame++) {
      for (let channel = 0; channel < this.#channels; channel++) this.#add(input[channel]?.[frame] ?? 0);
    }
    return true;
  }

  #add(sample: number): void {
    const magnitude = Math.abs(sample);
    if (magnitude > this.#peak) this.#peak = magnitude;
    if (magnitude >= 1) this.#clipped += 1;
    this.#block[this.#at++] = Math.max(-32_768, Math.min(32_767, Math.round(sample * 32_767)));
    if (this.#at === this.#block.length) this.#send(false);
  }

  #send(last: boolean): void {
    const pcm = this.#block.buffer.slice(0, this.#at * 2);
    const block: Block = { pcm, peak: this.#peak, clipped: this.#clipped, lost: this.#lost, last };
    this.#sink?.postMessage(block, [pcm]);
    [this.#at, this.#peak, this.#clipped, this.#lost] = [0, 0, 0, 0];
  }

  #obey(order: CaptureOrder): void {
    if ("sink" in order) {
      this.#channels = order.channels;
      this.#block = new Int16Array(framesInBlock * order.channels);
      this.#sink = order.sink;
    } else if ("paused" in order) this.#isPaused = order.paused;
    else if (!this.#isOver) {
      this.#isOver = true;
      this.#send(true);
    }
  }
}

registerProcessor("capture", Capture);
