import { beforeAll, describe, expect, it } from "@jest/globals";
import { access, constants, readFile } from "node:fs/promises";
import { join } from "node:path";
import { readConfig } from "../src/settings/config.ts";
import { settingEntries, variableName } from "../src/settings/settings.ts";
import { clientTools, needs } from "./support/needs.ts";

const root = join(import.meta.dirname, "../..");
const read = async (name: string): Promise<string> => await readFile(join(root, name), "utf8");

/** A value with one of the tags by which Compose replaces what other files say, instead of adding to it. */
class Tagged {
  constructor(
    readonly tag: string,
    readonly value: unknown,
  ) {}
}

type Node = Record<string, any>;
const isNode = (value: unknown): value is Node =>
  typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Tagged);

/** Merges as Compose does: maps by key, lists one behind the other, everything else by the later file. */
function merged(before: unknown, after: unknown): unknown {
  if (after instanceof Tagged) return after.tag === "!reset" ? undefined : merged(undefined, after.value);
  if (Array.isArray(after)) return [...(Array.isArray(before) ? before : []), ...after];
  if (!isNode(after)) return after;
  const keys = Object.keys({ ...(isNode(before) && before), ...after });
  const entries = keys.map((key) => [
    key,
    key in after ? merged(isNode(before) ? before[key] : undefined, after[key]) : (before as Node)[key],
  ]);
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}

/** Puts in the variables that are set, and defaults for the others. */
function interpolated(value: unknown, env: Readonly<Record<string, string>>): unknown {
  if (Array.isArray(value)) return value.map((one) => interpolated(one, env));
  if (isNode(value)) {
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, interpolated(one, env)]));
  }
  if (typeof value !== "string") return value;
  return value.replaceAll(/\$\{(\w+)(?:(:?)-([^}]*))?\}/g, (_all, name: string, colon: string, fallback = "") =>
    env[name] === undefined || (colon === ":" && env[name] === "") ? fallback : env[name],
  );
}

needs("the client tools", () => {
  describe.each([
    ["docker-compose.yml", ["docker-compose.yml"]],
    ["with compose.secrets.yml", ["docker-compose.yml", "compose.secrets.yml"]],
    ["with compose.scale.yml", ["docker-compose.yml", "compose.scale.yml"]],
  ])("the composition of %s", (_name, files) => {
    let raw: Node;
    let services: [name: string, service: Node][];
    const known = new Set(
      settingEntries.flatMap(([field, { isSecret }]) => {
        const name = variableName(field);
        return isSecret ? [name, `${name}_FILE`] : [name];
      }),
    );
    /** What a service of this project gets. */
    const envOf = (service: Node, env: Readonly<Record<string, string>> = {}): Record<string, string> => {
      const given = Object.entries(interpolated(service["environment"], env) as Node);
      return Object.fromEntries(given.map(([name, value]) => [name, value ?? env[name] ?? ""]));
    };
    /** The services that run this project's image. */
    const own = (): [string, Node][] => services.filter(([, { build }]) => build?.args?.FFMPEG !== undefined);

    beforeAll(async () => {
      const { parse } = await import(join(clientTools, "node_modules/yaml/dist/index.js"));
      const tags = ["!reset", "!override"].flatMap((tag) =>
        ["map", "seq", undefined].map((collection) => ({
          tag,
          collection,
          resolve: (value: any) => new Tagged(tag, typeof value === "string" ? null : value.toJSON()),
        })),
      );
      const parsed = async (file: string): Promise<Node> => parse(await read(file), { customTags: tags });
      const texts = await Promise.all(files.map(parsed));
      for (const text of texts) {
        for (const [name, service] of Object.entries<Node>(text["services"])) {
          if (!service["extends"]) continue;
          const { extends: base, ...rest } = service;
          const { services: bases } = await parsed(base.file);
          text["services"][name] = new Tagged("!override", merged(bases[base.service], rest));
        }
      }
      raw = texts.reduce((before: unknown, after) => merged(before, after), {}) as Node;
      services = Object.entries<Node>(raw["services"]);
    });

    it("names only settings that exist, with values that the service accepts", () => {
      expect(own().length).toBeGreaterThan(0);
      for (const [name, service] of own()) {
        const named = Object.keys(service["environment"]);
        expect([name, named.filter((setting) => !known.has(setting))]).toEqual([name, []]);
        const { DATABASE_PASSWORD_FILE: _file, ...env } = envOf(service);
        // The image sets it.
        const config = readConfig({ NODE_ENV: "production", ...env });
        const graceSeconds = Number.parseInt(String(interpolated(service["stop_grace_period"], {})), 10);
        expect(graceSeconds).toBeGreaterThan(config.shutdownDelaySeconds + config.shutdownGraceSeconds);
        // What the operator sets arrives.
        expect(readConfig({ NODE_ENV: "production", ...env, ...envOf(service, { MAX_UPLOADS: "7" }) })).toMatchObject({
          maxUploads: 7,
        });
      }
    });

    it("limits the memory and the processes of each part, and lets none gain rights", () => {
      for (const [name, service] of services) {
        expect({ name, ...service }).toMatchObject({
          name,
          mem_limit: expect.stringMatching(/^(?:\$\{\w+:-)?\d+[mg]\}?$/),
          pids_limit: expect.any(Number),
          security_opt: expect.arrayContaining(["no-new-privileges:true"]),
        });
      }
    });

    it("knows of each part whether it is healthy, and waits only for what exists", async () => {
      const image = await read("Dockerfile");
      for (const [name, service] of services) {
        const ends = service["restart"] === "no";
        const isChecked =
          service["healthcheck"]?.test !== undefined ||
          (own().some(([one]) => one === name) && /^HEALTHCHECK/m.test(image));
        expect([name, isChecked || ends]).toEqual([name, true]);
        for (const [other, { condition }] of Object.entries<Node>(service["depends_on"] ?? {})) {
          expect(raw["services"]).toHaveProperty(other);
          const wanted = raw["services"][other].restart === "no" ? "service_completed_successfully" : "service_healthy";
          expect([name, other, condition]).toEqual([name, other, wanted]);
        }
      }
    });

    it("lets one part alone be reached from outside, and stored data by no way but the internal network", () => {
      expect(raw["networks"].internal).toEqual({ internal: true });
      expect(services.filter(([, { ports = [] }]) => ports.length > 0)).toHaveLength(1);
      const storing = services.filter(([, { volumes = [] }]) => volumes.some((one: string) => !one.startsWith(".")));
      expect(storing.map(([, { networks }]) => networks)).toEqual(storing.map(() => ["internal"]));
      const named = services.flatMap(([, { networks }]) => networks as string[]);
      expect(named.filter((network) => !(network in raw["networks"]))).toEqual([]);
    });

    it("mounts, builds and runs files that are there, and can be run", async () => {
      const faults: string[] = [];
      for (const [, { volumes = [], build, command, entrypoint }] of services) {
        const mounts = (volumes as string[]).map((volume) => volume.split(":") as [string, string]);
        for (const [source, target] of mounts.filter(([source]) => source.startsWith("."))) {
          const isRun = target === command || target === entrypoint || target.endsWith(".sh");
          const way = isRun ? constants.X_OK : constants.R_OK;
          await access(join(root, source), way).catch((error: unknown) => faults.push(String(error)));
        }
        const named = mounts.map(([source]) => source).filter((source) => !source.startsWith("."));
        faults.push(...named.filter((volume) => !(volume in raw["volumes"])));
        const runs = [command, entrypoint].filter((run) => typeof run === "string");
        faults.push(...runs.filter((run) => !mounts.some(([, target]) => target === run)));
        const dockerfile = build?.context && join(root, build.context, "Dockerfile");
        if (dockerfile) await access(dockerfile).catch((error: unknown) => faults.push(String(error)));
      }
      expect(faults).toEqual([]);
    });

    it("lets every image that others have made be pinned by digest", async () => {
      const images: string[] = [];
      for (const [, { image, build }] of services) {
        if (image) images.push(image);
        const context = build?.context && (await read(join(build.context, "Dockerfile")));
        const dockerfile: string = build?.dockerfile_inline ?? context ?? "";
        const stages = new Set([...dockerfile.matchAll(/ AS (\S+)$/gm)].map(([, stage]) => stage!));
        const bases = [...dockerfile.matchAll(/^FROM (\S+)/gm)].map(([, base]) => base!);
        const others = bases.filter((base) => !stages.has(base) && !base.startsWith("runtime-"));
        images.push(...others.map((base) => build.args?.[/^\$\{(\w+)\}$/.exec(base)?.[1] ?? ""] ?? base));
      }
      expect(images.length).toBeGreaterThan(1);
      const pinnable = /^\$\{[A-Z]+(?:_[A-Z]+)*_IMAGE:-[a-z]+:[\w.-]+\}$/;
      expect(images.filter((image) => !pinnable.test(image))).toEqual([]);
    });

    it("takes secrets from files that the README makes, and git ignores", async () => {
      const [readme, ignored] = await Promise.all([read("README.md"), read(".gitignore")]);
      for (const [name, { file }] of Object.entries<Node>(raw["secrets"] ?? {})) {
        const path = String(interpolated(file, {})).replace("./", "");
        expect(readme).toContain(`> ${path}`);
        expect(ignored.split("\n")).toContain(path.split("/")[0]);
        const users = services.filter(([, { secrets = [] }]) => secrets.includes(name));
        expect(users.length).toBeGreaterThan(0);
        for (const [, { environment }] of users) {
          expect(Object.values(environment)).toContain(`/run/secrets/${name}`);
          // The file takes the place of the value.
          expect(JSON.stringify(environment)).not.toContain("for-local-use-only");
        }
      }
    });
  });
});
