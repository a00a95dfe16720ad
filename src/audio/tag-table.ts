/** Location of a tag in a WAV and in the MP3. */
interface TagPlaces {
  /** Its frame in ID3v2.4 and, except for the date, in 2.3 (id3.org), in the WAV and in the MP3. */
  readonly frame: string;
  /** Content: a line, a genre, a text of several lines, a time stamp, or a number with or without a total. */
  readonly holds: "line" | "genre" | "comment" | "timestamp" | "number";
  /** Equivalent frames: those of ID3v2.2, and older ones. */
  readonly olderFrames: readonly string[];
  /** Sub-chunks of a LIST chunk of type INFO (Multimedia Programming Interface 1.0, "INFO List Chunk"). */
  readonly info: readonly string[];
  /** Byte range in a broadcast extension chunk (EBU Tech 3285 section 2.3). */
  readonly bext?: readonly [start: number, end: number];
}

const table = [
  { name: "title", frame: "TIT2", holds: "line", olderFrames: ["TT2"], info: ["INAM"] },
  { name: "artist", frame: "TPE1", holds: "line", olderFrames: ["TP1"], info: ["IART"] },
  { name: "album", frame: "TALB", holds: "line", olderFrames: ["TAL"], info: ["IPRD"] },
  { name: "album_artist", frame: "TPE2", holds: "line", olderFrames: ["TP2"], info: [] },
  { name: "composer", frame: "TCOM", holds: "line", olderFrames: ["TCM"], info: ["IMUS"] },
  { name: "genre", frame: "TCON", holds: "genre", olderFrames: ["TCO"], info: ["IGNR"] },
  { name: "date", frame: "TDRC", holds: "timestamp", olderFrames: ["TYE", "TYER"], info: ["ICRD"], bext: [320, 330] },
  { name: "track", frame: "TRCK", holds: "number", olderFrames: ["TRK"], info: ["ITRK", "IPRT"] },
  { name: "disc", frame: "TPOS", holds: "number", olderFrames: ["TPA"], info: [] },
  { name: "comment", frame: "COMM", holds: "comment", olderFrames: ["COM"], info: ["ICMT"], bext: [0, 256] },
  { name: "copyright", frame: "TCOP", holds: "line", olderFrames: ["TCR"], info: ["ICOP"] },
  { name: "publisher", frame: "TPUB", holds: "line", olderFrames: ["TPB"], info: [] },
  { name: "isrc", frame: "TSRC", holds: "line", olderFrames: ["TRC"], info: [] },
  { name: "language", frame: "TLAN", holds: "line", olderFrames: ["TLA"], info: ["ILNG"] },
  { name: "encoded_by", frame: "TENC", holds: "line", olderFrames: ["TEN"], info: ["ITCH"], bext: [256, 288] },
  { name: "software", frame: "TSSE", holds: "line", olderFrames: ["TSS"], info: ["ISFT"] },
] as const satisfies readonly (TagPlaces & { readonly name: string })[];

/** The name of a tag; see {@link tagTable}. */
export type TagName = (typeof table)[number]["name"];

/** Every tag that the service copies to the MP3, in the order in which the API lists them. */
export const tagTable: readonly (TagPlaces & { readonly name: TagName })[] = table;

/** The tags of a recording by name. */
export type TagTexts = { readonly [N in TagName]?: string | undefined };
