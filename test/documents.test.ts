import { describe, expect, it } from "@jest/globals";
import { readdir, readFile, stat } from "node:fs/promises";

const root = new URL("../../", import.meta.url);
/** The paths in `.gitignore`, and git's own folder. */
const leftOut = new Set([".git", "node_modules", "dist", "data", "results"]);
const files = await filesBelow("");
const documents = files.filter((path) => path.endsWith(".md"));
const decisions = documents.filter((path) => path.startsWith("docs/decisions/"));

/** Files that the documents tell the reader to create. */
const isMadeByCommand = new Set(["operations.ts", "bench/results"]);

/** The paths of all files below a folder of the repository. It does not run git, which not every machine has. */
async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(new URL(folder, root), { withFileTypes: true });
  const paths = entries
    .filter(({ name }) => !leftOut.has(name))
    .map(async (entry) => {
      const path = folder + entry.name;
      return entry.isDirectory() ? await filesBelow(`${path}/`) : path;
    });
  return (await Promise.all(paths)).flat();
}

const read = async (path: string): Promise<string> => await readFile(new URL(path, root), "utf8");

describe("the documents", () => {
  it.each(documents)("lead to files and headings that exist: %s", async (path) => {
    const dead: string[] = [];
    for (const link of linksOf(await read(path))) {
      const target = new URL(link, new URL(path, root));
      if (target.protocol !== "file:") continue;
      const anchor = decodeURIComponent(target.hash.slice(1));
      target.hash = "";
      const there = await stat(target).catch(() => undefined);
      const found =
        there !== undefined &&
        (anchor === "" || (there.isFile() && anchorsOf(await readFile(target, "utf8")).includes(anchor)));
      if (!found) dead.push(link);
    }
    expect(dead).toEqual([]);
  });

  // The changelog may name files that no longer exist.
  it.each(documents.filter((path) => path !== "CHANGELOG.md"))("name files that exist: %s", async (path) => {
    const named = (await read(path)).matchAll(
      /`((?:src|test|docs|bench|schema|examples|\.ci)\/[\w./-]+|[\w.-]+\.ts)`/g,
    );
    const missing = [...named]
      .map(([, name]) => name!.replace(/\/$/, ""))
      .filter((name) => !isMadeByCommand.has(name))
      .filter((name) => !files.some((file) => `/${file}`.endsWith(`/${name}`) || file.startsWith(`${name}/`)));
    expect(missing).toEqual([]);
  });

  it("number each decision by its file, and say since when it stands", async () => {
    const wrong: string[] = [];
    for (const path of decisions) {
      const number = Number(/\/(\d{4})-[a-z0-9-]+\.md$/.exec(path)?.[1]);
      const [title = "", , status = ""] = (await read(path)).split("\n");
      const isStatus = /^(Accepted|Superseded by \[\d+\]\([^)]+\)) on \d{4}-\d\d-\d\d\.$/.test(status);
      if (!title.startsWith(`# ${number}. `) || !isStatus) wrong.push(path);
    }
    expect(wrong).toEqual([]);
    const numbers = decisions.map((path) => path.slice(0, "docs/decisions/0000".length));
    expect(new Set(numbers).size).toBe(numbers.length);
  });
});

describe("the link check", () => {
  it("finds links in texts, images and definitions, but none in code", () => {
    const text = "[a](x.md), ![b](y.png) and [c][d]\n\n[d]: <z.md#e>\n`[f](g)`\n\n```md\n[h](i)\n```\n";
    expect(linksOf(text)).toEqual(["x.md", "y.png", "z.md#e"]);
  });

  it("names headings as GitHub does", () => {
    const text = "# Settings\n## `GET /readyz`, and more\n### Pages & apps\n## Settings\n```sh\n# no heading\n```\n";
    expect(anchorsOf(text)).toEqual(["settings", "get-readyz-and-more", "pages--apps", "settings-1"]);
  });
});

/** The targets of the links in a Markdown text, in order. */
function linksOf(markdown: string): string[] {
  const text = withoutFences(markdown).replaceAll(/(`+)[^`]*?\1/g, "");
  const link = /\]\(\s*<?([^\s)>]+)>?[^)]*\)|^\[[^\]]+\]:\s*<?([^\s>]+)>?/gm;
  return [...text.matchAll(link)].map(([, inline, defined]) => (inline ?? defined)!);
}

/** The anchors of the headings in a Markdown text, as GitHub creates them: repeated headings get a number. */
function anchorsOf(markdown: string): string[] {
  const seen = new Map<string, number>();
  return [...withoutFences(markdown).matchAll(/^#{1,6} +(.+?) *#*$/gm)].map(([, heading]) => {
    const words = heading!.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1").toLowerCase();
    const anchor = words.replaceAll(/[^\p{L}\p{N}\p{M}_ -]/gu, "").replaceAll(" ", "-");
    const earlier = seen.get(anchor) ?? 0;
    seen.set(anchor, earlier + 1);
    return earlier === 0 ? anchor : `${anchor}-${earlier}`;
  });
}

function withoutFences(markdown: string): string {
  return markdown.replaceAll(/^( *)(`{3,}|~{3,})[^\n]*\n[^]*?^ *\2 *$/gm, "");
}
