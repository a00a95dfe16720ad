import { markdownTable } from "./markdown-table.ts";
import type { Setting } from "./setting.ts";
import { settingEntries, variableName } from "./settings.ts";

/** The README with an updated table of settings: the text between its comment and the next empty line. */
export function withSettingsTable(readme: string): string {
  const rows = settingEntries.map(([field, setting]) => {
    const name = variableName(field);
    return [`\`${name}\``, defaultOf(setting), setting.values, meaningOf(name, setting)];
  });
  const table = markdownTable(["variable", "default", "values", "meaning"], rows);
  return readme.replace(/(?<=<!-- [^\n]*settings\.ts[^\n]* -->\n\n)(?:\|[^\n]*\n)*/, () => `${table}\n`);
}

/** The text of `.env.example`. */
export function printEnvExample(): string {
  const blocks = settingEntries.map(([field, setting]) => {
    const name = variableName(field);
    const isPlain = setting.fallbackText === undefined && setting.fallback === setting.productionFallback;
    const range = `Values: ${setting.values}.${isPlain ? "" : ` Default: ${defaultOf(setting)}.`}`;
    const comment = [...wrapped(meaningOf(name, setting)), ...wrapped(range)].map((line) => `# ${line}`);
    return [...comment.map((line) => line.replaceAll("`", "")), `${name}=${isPlain ? String(setting.fallback) : ""}`];
  });
  const head = "# Every setting with its default. The service reads environment variables only, not this file.";
  return [[head], ...blocks].map((lines) => `${lines.join("\n")}\n`).join("\n");
}

function defaultOf({ fallback, productionFallback, fallbackText }: Setting<unknown>): string {
  if (fallbackText !== undefined) return fallbackText;
  const inProduction = productionFallback === fallback ? "" : `, in production ${String(productionFallback)}`;
  return `${String(fallback)}${inProduction}`;
}

function meaningOf(name: string, { meaning, isSecret }: Setting<unknown>): string {
  return isSecret ? `${meaning} \`${name}_FILE\` names a file that holds it.` : meaning;
}

/** Wraps the text at 118 characters. */
function wrapped(text: string): string[] {
  return [...text.matchAll(/.{1,118}(?: |$)/g)].map(([line]) => line.trimEnd());
}
