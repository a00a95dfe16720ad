import { Field, ObjectType } from "type-graphql";
import { leastLufs, mostLufs } from "../audio/mp3/mp3-gain.ts";
import { Facts, type FieldFacts } from "../graphql/field-facts.ts";
import { GraphQLURL } from "../graphql/scalars.ts";
import { requireLoudness } from "./parse-link.ts";
import { maxLinkLength, maxLoudnessLength, maxMp3LinkLength, withLoudness } from "./record-url.ts";

@ObjectType("LeveledLinks", {
  description:
    "Links that play a recording at a chosen loudness, in every player. The level of each frame is changed while it is " +
    "sent, in steps of 1.5 dB, and never so far that the true peak exceeds -1 dBTP. Nothing is encoded again.",
})
export class LeveledLinksType {
  @Field(() => GraphQLURL, { description: "The link to the MP3 as a download." })
  @Facts({ maxCharacters: maxLinkLength + maxLoudnessLength })
  url!: URL;

  @Field(() => GraphQLURL, { description: "The link for playing in a page or a player, instead of a download." })
  @Facts({ maxCharacters: maxLinkLength + maxLoudnessLength })
  streamUrl!: URL;

  @Field(() => GraphQLURL, { description: "Like `url`, with a file name that ends in `.mp3`, as feeds require." })
  @Facts({ maxCharacters: maxMp3LinkLength + maxLoudnessLength })
  mp3Url!: URL;
}

/** The facts of a field that answers with {@link leveledLinks}. */
export const leveledFacts: FieldFacts<{ lufs: number }> = { check: ({ lufs }) => requireLoudness(lufs, "lufs") };

/** Describes the argument of such a field. */
export const lufsDescription = `The loudness in LUFS, from ${leastLufs} to ${mostLufs}: -16 for podcasts, -14 for streaming, -23 for broadcasts.`;

/** The same links with a loudness. */
export function leveledLinks(
  links: { url: string; streamUrl: string; mp3Url: string },
  lufs: number,
): LeveledLinksType {
  requireLoudness(lufs, "lufs");
  return Object.assign(new LeveledLinksType(), {
    url: new URL(withLoudness(links.url, lufs)),
    streamUrl: new URL(withLoudness(links.streamUrl, lufs)),
    mp3Url: new URL(withLoudness(links.mp3Url, lufs)),
  });
}
