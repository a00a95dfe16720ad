/** Beginning of the title of tests that this machine cannot run. The rest of the title says what it lacks. */
export const skippedTitle = "skipped, for want of ";

/** The part of Jest's result that the reporter uses. */
interface RunResult {
  readonly testResults: readonly {
    readonly testResults: readonly { readonly ancestorTitles: readonly string[]; readonly title: string }[];
  }[];
}

/** Prints at the end of a run which tests were skipped and what this machine lacks for them. */
export default class SkippedReporter {
  onRunComplete(_contexts: unknown, run: RunResult): void {
    const testsByLack = new Map<string, string[]>();
    for (const { ancestorTitles, title } of run.testResults.flatMap((file) => file.testResults)) {
      const lack = ancestorTitles.find((each) => each.startsWith(skippedTitle))?.slice(skippedTitle.length);
      if (lack === undefined) continue;
      const name = [...ancestorTitles.filter((each) => !each.startsWith(skippedTitle)), title].join(" ");
      testsByLack.set(lack, [...(testsByLack.get(lack) ?? []), name]);
    }
    for (const [lack, tests] of testsByLack) {
      process.stderr.write(`\nSkipped, for want of ${lack}:\n${tests.map((name) => `  ${name}\n`).join("")}`);
    }
  }
}
