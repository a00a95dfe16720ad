import { emptyIxml, readIxml, type Ixml, type Track } from "./ixml.ts";
import { timecodeOf } from "./timecode.ts";

/** What the recorder or its user states about a recording. */
export interface ProductionFacts extends Pick<Ixml, "project" | "scene" | "take" | "tape" | "note" | "timecodeRate"> {
  /** Local date and time: "2026-11-23T10:32:15". */
  readonly recordedAt: string | null;
  /** Samples from midnight to the first sample, at the rate of the file. */
  readonly timeReferenceSamples: number | null;
  readonly timecode: string | null;
  readonly tracks: readonly Track[];
}

/** Byte ranges in a broadcast extension chunk (EBU Tech 3285 section 2.3). */
const originationDate = [320, 330] as const;
const originationTime = [330, 338] as const;
const timeReference = 338;

/** What {@link ProductionNotes} has collected so far. */
export interface ProductionNotesState {
  readonly bext: Pick<ProductionFacts, "recordedAt" | "timeReferenceSamples"> | undefined;
  readonly ixml: Ixml | undefined;
}

/** Collects what field recorders write into `bext` and `iXML` chunks. The first chunk of each kind counts. */
export class ProductionNotes {
  #bext: ProductionNotesState["bext"];
  #ixml: ProductionNotesState["ixml"];

  /** Reads a broadcast extension chunk, or its beginning. */
  addBext(chunk: Buffer): void {
    if (this.#bext || chunk.length < timeReference + 8) return;
    const samples = Number(chunk.readBigUInt64LE(timeReference));
    this.#bext = {
      recordedAt: localTime(chunk.toString("latin1", ...originationDate), chunk.toString("latin1", ...originationTime)),
      timeReferenceSamples: Number.isSafeInteger(samples) ? samples : null,
    };
  }

  /** Reads an iXML chunk, or its beginning. */
  addIxml(chunk: Buffer): void {
    this.#ixml ??= readIxml(chunk);
  }

  /** What it takes to go on with another collection. */
  save(): ProductionNotesState {
    return { bext: this.#bext, ixml: this.#ixml };
  }

  /** Goes on where another collection of the same file was saved. */
  restore({ bext, ixml }: ProductionNotesState): void {
    this.#bext = bext;
    this.#ixml = ixml;
  }

  /** What was found in a file of this sample rate; undefined if that is nothing. */
  facts(sampleRateHz: number): ProductionFacts | undefined {
    const { timestampSamples, timestampRateHz, isDropFrame, tracks, ...texts } = this.#ixml ?? emptyIxml;
    const samples = this.#bext?.timeReferenceSamples ?? timestampSamples;
    const rate = texts.timecodeRate;
    const start = {
      samples: samples ?? 0,
      sampleRateHz: timestampRateHz ?? sampleRateHz,
      rate: rate ?? "",
      isDropFrame,
    };
    const found = {
      ...texts,
      recordedAt: this.#bext?.recordedAt ?? null,
      timeReferenceSamples: samples,
      timecode: (samples !== null && rate !== null && timecodeOf(start)) || null,
    };
    const hasAny = tracks.length > 0 || Object.values(found).some((value) => value !== null);
    return hasAny ? { ...found, tracks } : undefined;
  }
}

/** "2026-11-23" and "10:32:15", with any of the separators that the standard allows. */
function localTime(date: string, time: string): string | null {
  const [, year, month, day] = /^(\d{4})[-_:. ](\d\d)[-_:. ](\d\d)/.exec(date) ?? [];
  const [, hour, minute, second] = /^(\d\d)[-_:. ](\d\d)[-_:. ](\d\d)/.exec(time) ?? [];
  const text = `${year}-${month}-${day}T${hour}:${minute}:${second}`;
  const moment = new Date(`${text}Z`);
  return Number.isNaN(moment.getTime()) || !moment.toISOString().startsWith(text) ? null : text;
}
