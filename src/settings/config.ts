import { maxEmbeddedPoolSize } from "../database/embedded/server-connections.ts";
import { withPassword } from "./database-url.ts";
import { nearMiss } from "./near-miss.ts";
import { settingEntries, variableName, type SettingValues } from "./settings.ts";

/** The quota of a user; 0: unlimited. */
export interface Quota {
  /** Of MP3. */
  readonly bytes: number;
  readonly seconds: number;
  readonly records: number;
}

/** Settings that {@link Config} has in a different form. */
type Reshaped = "nodeEnv" | "databasePassword" | "quotaBytes" | "quotaSeconds" | "quotaRecords";

/**
 * All settings of the service, read from environment variables by {@link readConfig}; `settings.ts` says what each
 * means.
 */
export interface Config extends Omit<SettingValues, Reshaped> {
  readonly production: boolean;
  /** The quota of users without their own. */
  readonly quota: Quota;
}

/** One or more settings are invalid. The message names them all. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

export type Env = Readonly<Record<string, string | undefined>>;

/**
 * Reads the settings from environment variables. Unset and empty ones have their defaults.
 * @param faults faults that are already known
 * @throws {ConfigError} that names every invalid variable
 */
export function readConfig(env: Env, faults: readonly string[] = []): Config {
  const found = [...faults, ...misspelt(env)];
  const { nodeEnv, databasePassword, quotaBytes, quotaSeconds, quotaRecords, ...values } = readValues(env, found);
  const { publicUrl, allowedHosts, databaseUrl, databaseReadUrl, databasePoolSize } = values;
  const isEmbedded = !env["DATABASE_URL"]?.trim() && !env["DATABASE_URL_FILE"];
  if (isEmbedded && databasePoolSize > maxEmbeddedPoolSize) {
    found.push(`DATABASE_POOL_SIZE must be at most ${maxEmbeddedPoolSize} with the embedded PostgreSQL`);
  }
  const complete = (url: string | undefined) =>
    databasePassword === undefined ? url : url && withPassword(url, databasePassword);
  const [completeUrl, completeReadUrl] = [complete(databaseUrl), complete(databaseReadUrl)];
  if (databasePassword !== undefined && completeUrl === undefined && (isEmbedded || databaseUrl !== undefined)) {
    found.push("DATABASE_PASSWORD goes with a DATABASE_URL that names a user and no password");
  }
  if (databaseReadUrl !== undefined && isEmbedded) found.push("DATABASE_READ_URL goes with a DATABASE_URL");
  if (databaseReadUrl !== undefined && completeReadUrl === undefined) {
    found.push("DATABASE_PASSWORD goes with a DATABASE_READ_URL that names a user and no password");
  }
  if ((values.oidcIssuer === undefined) !== (values.oidcAudience === undefined)) {
    found.push("OIDC_ISSUER and OIDC_AUDIENCE go together: set both or neither");
  }
  if (values.store === "s3" && values.s3Bucket === undefined && !env["S3_BUCKET"]?.trim()) {
    found.push("S3_BUCKET is required with STORE=s3");
  }
  if ((values.s3AccessKey === undefined) !== (values.s3SecretKey === undefined)) {
    found.push("S3_ACCESS_KEY and S3_SECRET_KEY go together: set both or neither");
  }
  if (found.length > 0) throw new ConfigError(found.join("; "));
  return {
    ...values,
    production: nodeEnv === "production",
    allowedHosts: allowedHosts && [...allowedHosts, ...ownHosts(publicUrl)],
    databaseUrl: completeUrl,
    databaseReadUrl: completeReadUrl,
    quota: { bytes: quotaBytes, seconds: quotaSeconds, records: quotaRecords },
  };
}

/** Reads the value of each setting. For an invalid one, it adds a fault and uses the default. */
function readValues(env: Env, faults: string[]): SettingValues {
  const isProduction = env["NODE_ENV"]?.trim() === "production";
  const entries = settingEntries.map(([field, { parse, fallback, productionFallback }]): [string, unknown] => {
    const name = variableName(field);
    const given = env[name]?.trim() || undefined;
    const unset = isProduction ? productionFallback : fallback;
    if (given === undefined) return [field, unset];
    try {
      return [field, parse(given)];
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      faults.push(`${name} ${error.message}`);
      return [field, unset];
    }
  });
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- each entry is its setting's value, and all are here
  return Object.fromEntries(entries) as SettingValues;
}

/**
 * Finds variables that are probably misspelt settings, which would silently have no effect. If the correct one is also
 * set, the other belongs to another program.
 */
function misspelt(env: Env): string[] {
  const forms = settingEntries.map(([field, { isSecret }]) => {
    const name = variableName(field);
    return isSecret ? [name, `${name}_FILE`] : [name];
  });
  const names = forms.flat();
  // One form of a secret is enough, and so is an empty value: that is how the rest is said to be meant.
  const unset = forms.filter((some) => some.every((name) => env[name] === undefined)).flat();
  return Object.keys(env).flatMap((name) => {
    const meant = env[name] && !names.includes(name) ? nearMiss(name, unset) : undefined;
    return meant === undefined
      ? []
      : [
          `${name} is not a setting, but ${meant} is: correct the name, or set ${meant} too, to nothing if need be, if ${name} belongs to another program`,
        ];
  });
}

/** Hosts that requests may always name. */
function ownHosts(publicUrl: string | undefined): string[] {
  return [...(publicUrl === undefined ? [] : [new URL(publicUrl).host]), "localhost", "127.0.0.1", "[::1]"];
}
