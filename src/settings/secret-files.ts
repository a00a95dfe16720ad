import { readFile } from "node:fs/promises";
import { ConfigError } from "./config.ts";

/** Secrets may stand in files, as container engines hand them over: `DATABASE_PASSWORD_FILE` for `DATABASE_PASSWORD`. */
export async function withSecretFiles(env: NodeJS.ProcessEnv): Promise<NodeJS.ProcessEnv> {
  const found = { ...env };
  for (const name of ["DATABASE_URL", "DATABASE_PASSWORD"]) {
    const file = env[`${name}_FILE`];
    if (!file) continue;
    if (env[name]) throw new ConfigError(`${name} and ${name}_FILE are both set: unset one of them`);
    found[name] = await readFile(file, "utf8").catch((cause: unknown) => {
      throw new ConfigError(`${name}_FILE names a file that the service cannot read: ${file}`, { cause });
    });
  }
  return found;
}
