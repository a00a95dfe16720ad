import { readFile } from "node:fs/promises";

const root = new URL("../../../", import.meta.url);

/** The code of a document's section in fences of this kind, such as `sh`, as it stands. */
export async function codeOf(document: string, heading: string, kind: string): Promise<string> {
  const text = await readFile(new URL(document, root), "utf8");
  const sections = text.split(/^## /m).filter((section) => section.startsWith(`${heading}\n`));
  const blocks = sections.flatMap((section) => [...section.matchAll(/^```(.+)\n([^]*?)^```$/gm)]);
  const code = blocks.filter(([, fence]) => fence === kind).map(([, , lines]) => lines!);
  if (code.length === 0) throw new Error(`${document} has no ${kind} under "${heading}"`);
  return code.join("");
}
