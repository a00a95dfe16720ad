/** A part of the sound that players can jump to. It begins at a cue point and ends at the next one. */
export interface Chapter {
  readonly title: string | null;
  readonly startSeconds: number;
  readonly endSeconds: number;
}

/** A picture that belongs to the sound, such as the front cover. */
export interface Picture {
  readonly mediaType: "image/jpeg" | "image/png";
  readonly bytes: Uint8Array;
}
