import { escapeHtml } from "../http/html-page.ts";
import { frameHeight, frameWidth, type ListenableRecording, type ListenAddresses } from "./listen-page.ts";
import { pictureHeight, pictureWidth } from "./waveform-picture.ts";

/** Size of the place that somebody has for a frame, in CSS pixels. */
interface FrameRoom {
  readonly maxWidth: number;
  readonly maxHeight: number;
}

/**
 * What a recording is for a page that embeds links (oEmbed 1.0). It is a `video`, with a player in a frame: some
 * programs take the HTML of a `rich` one from a few known services only.
 */
export function oembedOf({ title }: ListenableRecording, addresses: ListenAddresses, origin: string, room: FrameRoom) {
  const [width, height] = [Math.min(frameWidth, room.maxWidth), Math.min(frameHeight, room.maxHeight)];
  const attributes = { src: addresses.embed, width, height, title, frameborder: 0 };
  const written = Object.entries(attributes).map(([name, value]) => ` ${name}="${escapeHtml(String(value))}"`);
  return {
    version: "1.0",
    type: "video",
    title,
    provider_name: new URL(origin).host,
    provider_url: origin,
    thumbnail_url: addresses.picture,
    thumbnail_width: pictureWidth,
    thumbnail_height: pictureHeight,
    html: `<iframe${written.join("")}></iframe>`,
    width,
    height,
  };
}
