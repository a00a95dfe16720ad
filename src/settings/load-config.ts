import { readFile } from "node:fs/promises";
import { readConfig, type Config, type Env } from "./config.ts";
import { settingEntries, variableName } from "./settings.ts";

/**
 * Reads the settings as {@link readConfig} does. Secrets may be in files, as container engines provide them:
 * `DATABASE_PASSWORD_FILE` for `DATABASE_PASSWORD`.
 * @throws {ConfigError} that names every invalid variable
 */
export async function loadConfig(env: Env): Promise<Config> {
  const complete: Record<string, string | undefined> = { ...env };
  const faults: string[] = [];
  for (const [field] of settingEntries.filter(([, { isSecret }]) => isSecret)) {
    const name = variableName(field);
    const file = env[`${name}_FILE`];
    if (!file) continue;
    if (env[name]) faults.push(`${name} and ${name}_FILE are both set: unset one of them`);
    else {
      complete[name] = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
        faults.push(`${name}_FILE names a file that the service cannot read: ${file} (${error.code})`);
        return undefined;
      });
      if (complete[name]?.trim() === "") faults.push(`${name}_FILE names an empty file: ${file}`);
    }
  }
  return readConfig(complete, faults);
}
