import { readdir, readFile } from "node:fs/promises";
import { extname } from "node:path";

/** A file that the page loads, in every form in which it is sent. The build has written them. */
interface PageFile {
  readonly contentType: string;
  readonly plain: Buffer;
  readonly br: Buffer;
  readonly gzip: Buffer;
}

/** The page, as `npm run build` has written it. */
export interface PageFiles {
  readonly html: string;
  /** By name, which contains a hash of the content. */
  readonly assets: ReadonlyMap<string, PageFile>;
}

const folder = new URL("../../page/", import.meta.url);

const contentTypes: Readonly<Record<string, string>> = {
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
};

/**
 * Reads the page into memory: some 100 kB.
 * @throws {Error} with a sentence for the operator if it has not been built
 */
export async function readPageFiles(): Promise<PageFiles> {
  const assetsFolder = new URL("assets/", folder);
  const html = await readFile(new URL("index.html", folder), "utf8").catch((cause: unknown) => {
    throw new Error("The web page has not been built. Run npm run build, or set WEB_PAGE to false.", { cause });
  });
  const assets = new Map<string, PageFile>();
  for (const name of await readdir(assetsFolder)) {
    const contentType = contentTypes[extname(name)];
    if (contentType === undefined) continue; // a compressed form
    const form = async (suffix: string) => await readFile(new URL(name + suffix, assetsFolder));
    assets.set(name, { contentType, plain: await form(""), br: await form(".br"), gzip: await form(".gz") });
  }
  return { html, assets };
}
