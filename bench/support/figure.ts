/** The goal of a figure, as an absolute value or as a ratio to its reference. */
export interface Goal {
  readonly of: "value" | "ratio";
  readonly atMost?: number;
  readonly atLeast?: number;
}

/** One measured number, with the reference that the same run measured. */
export interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: "s" | "ms" | "kB" | "MB" | "MB/s" | "/s" | "%" | "dB";
  readonly reference?: { readonly name: string; readonly value: number };
  readonly goal?: Goal;
}

/** The figure divided by its reference; undefined without one. */
export function ratioOf({ value, unit, reference }: Figure): number | undefined {
  // A ratio in decibels is a difference, which stands in a figure of its own.
  return reference && unit !== "dB" ? value / reference.value : undefined;
}

/** Whether the figure reaches its goal; undefined without one. */
export function reachesGoal(figure: Figure): boolean | undefined {
  const { goal } = figure;
  if (!goal) return undefined;
  const judged = goal.of === "value" ? figure.value : ratioOf(figure);
  return judged !== undefined && judged <= (goal.atMost ?? Infinity) && judged >= (goal.atLeast ?? -Infinity);
}

/** The figures as a table in Markdown. */
export function markdownTable(figures: readonly Figure[]): string {
  const header = ["figure", "measured", "reference", "ratio", "goal", "reached"];
  const rows = figures.map((figure) => {
    const { name, value, unit, reference, goal } = figure;
    const ratio = ratioOf(figure);
    const reached = reachesGoal(figure);
    return [
      name,
      withUnit(value, unit),
      reference ? `${withUnit(reference.value, unit)} ${reference.name}` : "",
      ratio === undefined ? "" : threeDigits(ratio),
      goal ? describeGoal(goal, unit) : "",
      reached === undefined ? "" : reached ? "yes" : "**no**",
    ];
  });
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)));
  const line = (cells: readonly string[]) => `| ${cells.map((cell, i) => cell.padEnd(widths[i]!)).join(" | ")} |`;
  return [line(header), line(widths.map((width) => "-".repeat(width))), ...rows.map(line)].join("\n");
}

/** The median. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return (sorted[Math.ceil(middle) - 1]! + sorted[Math.floor(middle)]!) / 2;
}

function describeGoal({ of, atMost, atLeast }: Goal, unit: Figure["unit"]): string {
  const bound = (atMost ?? atLeast)!;
  const limit = of === "ratio" ? `${bound} of the reference` : withUnit(bound, unit);
  return `${atMost === undefined ? "at least" : "at most"} ${limit}`;
}

function withUnit(value: number, unit: Figure["unit"]): string {
  return `${threeDigits(value)} ${unit}`;
}

/** Three significant digits, but no fewer than the integer part has. */
function threeDigits(value: number): string {
  const integerDigits = Math.max(1, Math.ceil(Math.log10(Math.abs(value) + 1)));
  return value.toFixed(Math.max(0, 3 - integerDigits));
}
