/** A type of file that people send in place of a WAV. */
export interface OtherFile {
  readonly name: string;
  /** What to do about it, in one sentence. */
  readonly advice: string;
}

const asPcm = "Export it as WAV (PCM).";
const unpacked = "Unpack it and send the WAV.";
const decoded = "Send the decoded bytes.";
const notSound = "Send the recording as WAV (PCM).";

/** Types of files by their first four bytes. Sound rarely begins with them by chance. */
const otherFiles: Readonly<Record<string, OtherFile>> = {
  fLaC: { name: "FLAC", advice: asPcm },
  OggS: { name: "Ogg", advice: asPcm },
  FORM: { name: "AIFF", advice: asPcm },
  caff: { name: "CAF", advice: asPcm },
  wvpk: { name: "WavPack", advice: asPcm },
  "MAC ": { name: "Monkey's Audio", advice: asPcm },
  "#!AM": { name: "AMR", advice: asPcm },
  "\x1aE\xdf\xa3": { name: "WebM or Matroska", advice: asPcm },
  "\x30\x26\xb2\x75": { name: "WMA", advice: asPcm },
  ".snd": { name: "AU", advice: asPcm },
  "dns.": { name: "AU", advice: asPcm },
  Crea: { name: "VOC", advice: asPcm },
  TTA1: { name: "TTA", advice: asPcm },
  "DSD ": { name: "DSF (DSD)", advice: asPcm },
  FRM8: { name: "DSDIFF (DSD)", advice: asPcm },
  MPCK: { name: "Musepack", advice: asPcm },
  "MP+\x07": { name: "Musepack", advice: asPcm },
  "OFR ": { name: "OptimFROG", advice: asPcm },
  NIST: { name: "NIST SPHERE", advice: asPcm },
  ".ra\xfd": { name: "RealAudio", advice: asPcm },
  ".RMF": { name: "RealMedia", advice: asPcm },
  "FLV\x01": { name: "FLV", advice: asPcm },
  ADIF: { name: "AAC", advice: asPcm },
  MThd: { name: "MIDI, which has notes but no sound", advice: "Render it as WAV (PCM)." },
  "PK\x03\x04": { name: "a ZIP archive", advice: unpacked },
  "Rar!": { name: "a RAR archive", advice: unpacked },
  "7z\xbc\xaf": { name: "a 7z archive", advice: unpacked },
  "%PDF": { name: "a PDF", advice: notSound },
  "\x89PNG": { name: "a PNG picture", advice: notSound },
  "\xff\xd8\xff\xe0": { name: "a JPEG picture", advice: notSound },
  "\xff\xd8\xff\xe1": { name: "a JPEG picture", advice: notSound },
  "<!DO": { name: "a web page", advice: notSound },
  "<htm": { name: "a web page", advice: notSound },
};

/** Types of files whose marks are too short, or occur in sound or in WAVs. */
const shortMarks: readonly (readonly [mark: string, file: OtherFile])[] = [
  ["\x1f\x8b", { name: "gzip", advice: "Send it uncompressed." }],
  ["\x0b\x77", { name: "AC-3", advice: asPcm }],
  ["\0\0\0\0", { name: "a recording that was not finished: it begins with zeros", advice: "Record it again." }],
  ["\0\0\0", { name: "MP4 or M4A", advice: asPcm }],
  ["UklG", { name: "a WAV in Base64", advice: decoded }],
  ["data", { name: "a data URL", advice: decoded }],
  ["ID3", { name: "MP3", advice: asPcm }],
];
const mpegAudio: OtherFile = { name: "MP3 or AAC", advice: asPcm };

/** The type of file that begins here, from its first four bytes, if they do not occur in sound by chance. */
export function otherFileAt(bytes: Buffer): OtherFile | undefined {
  return otherFiles[bytes.toString("latin1", 0, 4)];
}

/** The type of a file that is no WAV, from its first four bytes. */
export function kindOfFile(start: Buffer): OtherFile | undefined {
  const text = start.toString("latin1", 0, 4);
  const isMpegAudio = /^\xff[\xe2-\xfd]/u.test(text);
  return otherFileAt(start) ?? (isMpegAudio ? mpegAudio : shortMarks.find(([mark]) => text.startsWith(mark))?.[1]);
}
