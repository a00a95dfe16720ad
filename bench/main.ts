/**
 * Compares the service with fast references and prints one table: `npm run bench`, or `npm run bench -- --quick`
 * without the hour-long recording. More words select groups of figures by their names.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { availableParallelism, cpus, loadavg, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { longRecordingFigures, manyRecordingsFigures, slowClientFigures } from "./conversion-figures.ts";
import { downloadFigures } from "./download-figures.ts";
import { pageFigures } from "./page-figures.ts";
import { qualityFigures } from "./quality-figures.ts";
import { resumeFigures } from "./resume-figures.ts";
import { startFigures } from "./start-figures.ts";
import { markdownTable, ratioOf, reachesGoal, type Figure } from "./support/figure.ts";
import { openWorkbench, type Workbench } from "./support/workbench.ts";
import { takeFigures } from "./take-figures.ts";
import { userFigures } from "./user-figures.ts";

const groups: Readonly<Record<string, (bench: Workbench) => Promise<Figure[]>>> = {
  start: startFigures,
  users: userFigures,
  many: manyRecordingsFigures,
  slow: slowClientFigures,
  takes: takeFigures,
  page: pageFigures,
  long: longRecordingFigures,
  resume: resumeFigures,
  downloads: downloadFigures,
  quality: qualityFigures,
};

const { values: options, positionals } = parseArgs({
  options: { quick: { type: "boolean", default: false } },
  allowPositionals: true,
});
const unknown = positionals.find((name) => !Object.hasOwn(groups, name));
if (unknown !== undefined) throw new Error(`${unknown} is none of ${Object.keys(groups).join(", ")}`);

await using bench = await openWorkbench(options);
const [loadBefore] = loadavg();
const machine = {
  time: new Date().toISOString(),
  cores: availableParallelism(),
  cpu: cpus()[0]?.model ?? "unknown",
  memoryGiB: Math.round(totalmem() / 1024 ** 3),
  node: process.version,
  ffmpeg: bench.ffmpeg.version,
  loadBefore,
};
const figures: Figure[] = [];
for (const [name, measure] of Object.entries(groups)) {
  if (positionals.length > 0 && !positionals.includes(name)) continue;
  const started = performance.now();
  figures.push(...(await measure(bench)));
  console.error(`${name}: measured in ${((performance.now() - started) / 1000).toFixed(0)} s`);
}

const { cores, cpu, memoryGiB, node, ffmpeg } = machine;
console.log(
  `${machine.time.slice(0, 10)}, ${cores} cores (${cpu}), ${memoryGiB} GiB, Node ${node}, ffmpeg ${ffmpeg}, load before ${loadBefore?.toFixed(2)}\n`,
);
console.log(markdownTable(figures));

const results = join(import.meta.dirname, "../../bench/results");
await mkdir(results, { recursive: true });
const judged = figures.map((figure) => ({ ...figure, ratio: ratioOf(figure), reached: reachesGoal(figure) }));
await writeFile(
  join(results, `${machine.time.replaceAll(":", "-")}.json`),
  `${JSON.stringify({ machine, figures: judged }, undefined, 2)}\n`,
);
