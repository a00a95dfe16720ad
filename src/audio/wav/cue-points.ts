import { cleanText } from "../../input/plain-text.ts";
import type { Chapter } from "../tag-contents.ts";
import { decodeUnlabelled } from "./tag-text.ts";
import { uint32 } from "./wav-format.ts";

/** Cue points that are read: as many as a table of contents in an MP3 can have. */
export const maxCuePoints = 255;
const cuePointBytes = 24;

/** Maximum number of bytes that are read of a `cue ` chunk. */
export const maxCueBytes = 4 + maxCuePoints * cuePointBytes;

const maxLabels = 1000;
export const maxTitleCharacters = 200;

/** Maximum number of bytes that are read of a label: its cue point's number, and the title in any encoding. */
export const maxLabelBytes = 4 + 4 * maxTitleCharacters;

/** The cue points and labels that {@link CuePoints} has collected so far. */
export interface CuePointsState {
  readonly samples: ReadonlyMap<number, number>;
  readonly labels: ReadonlyMap<number, Buffer>;
}

/** Collects cue points and their labels (Multimedia Programming Interface 1.0, "Cue-Points Chunk", "Associated Data Chunk"). */
export class CuePoints {
  /** The sample of each cue point, by its number. */
  readonly #samples = new Map<number, number>();
  readonly #labels = new Map<number, Buffer>();

  /** Reads a `cue ` chunk, or its beginning. Only the first one of a file counts: others belong to WAVs that follow. */
  addCues(chunk: Buffer, bigEndian: boolean): void {
    if (this.#samples.size > 0) return;
    for (let at = 4; at + cuePointBytes <= chunk.length; at += cuePointBytes) {
      this.#samples.set(uint32(chunk, at, bigEndian), uint32(chunk, at + 20, bigEndian));
    }
  }

  /** Reads a `labl` sub-chunk, or its beginning. */
  addLabel(label: Buffer, bigEndian: boolean): void {
    if (label.length <= 4 || this.#labels.size >= maxLabels) return;
    const number = uint32(label, 0, bigEndian);
    if (!this.#labels.has(number)) this.#labels.set(number, Buffer.from(label.subarray(4)));
  }

  /** What it takes to go on with another collection. */
  save(): CuePointsState {
    return { samples: this.#samples, labels: this.#labels };
  }

  /** Goes on where another collection of the same file was saved. */
  restore({ samples, labels }: CuePointsState): void {
    for (const [number, sample] of samples) this.#samples.set(number, sample);
    for (const [number, label] of labels) this.#labels.set(number, label);
  }

  /** The chapters that the cue points inside the sound make, in order. */
  chapters(sampleRateHz: number, samples: number, codePage: number | undefined): Chapter[] {
    const points = [...this.#samples].filter(([, sample]) => sample < samples).toSorted(([, a], [, b]) => a - b);
    return points.map(([number, sample], position) => {
      const label = this.#labels.get(number);
      const isCut = (label?.length ?? 0) + 4 >= maxLabelBytes;
      const title = label && cleanText(decodeUnlabelled(label, { codePage, isCut }) ?? "", maxTitleCharacters);
      return {
        title: title || null,
        startSeconds: sample / sampleRateHz,
        endSeconds: (points[position + 1]?.[1] ?? samples) / sampleRateHz,
      };
    });
  }
}
