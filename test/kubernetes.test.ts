import { beforeAll, describe, expect, it } from "@jest/globals";
import { execFile, spawnSync } from "node:child_process";
import { mkdir, readdir, readFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { promisify } from "node:util";
import { readConfig } from "../src/settings/config.ts";
import { settingEntries, variableName } from "../src/settings/settings.ts";
import { clientTools, needs, needsSystem, runs } from "./support/needs.ts";

const root = join(import.meta.dirname, "../..");
const folder = join(root, "deploy/k8s");
const work = join(root, "dist/kubernetes");

/** Kubernetes objects, and what is wrong with them. */
interface Checked {
  readonly objects: any[];
  readonly faults: string[];
}

/** Checks objects with the types of their API. */
async function check(yaml: string): Promise<Checked> {
  await mkdir(work, { recursive: true });
  const literals = join(work, `${crypto.randomUUID()}.ts`);
  const checker = spawnSync(process.execPath, [join(clientTools, "check-manifests.js"), literals], { input: yaml });
  if (checker.status !== 0) throw new Error(String(checker.stderr));
  const { objects, faults }: Checked = JSON.parse(String(checker.stdout));
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const options = ["--noEmit", "--ignoreConfig", "--strict", "--skipLibCheck", "--module", "nodenext", "--types", ""];
  const typed = spawnSync(process.execPath, [tsc, ...options, literals], { cwd: root, encoding: "utf8" });
  const unknown = typed.stdout.split("\n").filter((line) => line.includes("error TS"));
  return { objects, faults: [...faults, ...unknown] };
}

const ofKind = ({ objects }: Checked, kind: string): any => objects.find((object) => object.kind === kind);

/** The files below the folder that hold whole objects. */
async function manifests(): Promise<string[]> {
  const names = await readdir(folder, { recursive: true });
  return names.filter((name) => name.endsWith(".yaml") && !/kustomization\.yaml$|-patch\.yaml$/.test(name)).toSorted();
}

const read = async (name: string): Promise<string> => await readFile(join(folder, name), "utf8");

needs("the client tools", () => {
  describe("the manifests for Kubernetes", () => {
    let all: Checked;
    beforeAll(async () => {
      all = await check((await Promise.all((await manifests()).map(read))).join("\n---\n"));
    });

    it("have the keys and values of their APIs, and no others", () => {
      expect(all.faults).toEqual([]);
      expect(new Set(all.objects.map(({ kind }) => kind))).toEqual(
        new Set([
          "Cluster",
          "Deployment",
          "HTTPRoute",
          "HorizontalPodAutoscaler",
          "NetworkPolicy",
          "PodDisruptionBudget",
          "PodMonitor",
          "PrometheusRule",
          "ScaledObject",
          "Service",
        ]),
      );
    });

    it("would be refused with a key that is misspelt, or a value of the wrong type", async () => {
      const texts = await Promise.all((await manifests()).map(read));
      const wrong = texts
        .join("\n---\n")
        .replace("periodSeconds: 2", "periodSecond: 2")
        .replace("maxUnavailable: 1", "maxUnavailble: 1")
        .replace("timeouts: {", "timeout: {")
        .replace("cooldownPeriod:", "coolDownPeriod:")
        .replace("walStorage:", "walStore:")
        .replace("podMetricsEndpoints: [{ port: metrics,", "podMetricsEndpoints: [{ ports: metrics,")
        .replace("minReplicas: 2", "minReplicas: two");
      const { faults } = await check(wrong);
      const reported = [
        "periodSecond",
        "maxUnavailble",
        "timeout",
        "coolDownPeriod",
        "walStore",
        "ports",
        "minReplicas",
      ];
      for (const name of reported) expect(faults.join("\n")).toMatch(new RegExp(`\\b${name}\\b`));
      expect(faults).toHaveLength(reported.length);
    });

    it("meet at the same ports, names and times", async () => {
      const [deployment, service] = [ofKind(all, "Deployment"), ofKind(all, "Service")];
      const { spec: pod } = deployment.spec.template;
      const [container] = pod.containers;
      const ports = new Map(container.ports.map(({ name, containerPort }: any) => [name, containerPort]));
      const settings = envOf(await read("base/settings.env"));
      const config = readConfig({ ...settings, ...envOf(await read("base/secrets.env")) });
      expect(ports).toEqual(
        new Map([
          ["http", config.port],
          ["metrics", config.metricsPort],
        ]),
      );
      const named = [
        service.spec.ports[0].targetPort,
        ...["startupProbe", "livenessProbe", "readinessProbe"].map((probe) => container[probe].httpGet.port),
        ...ofKind(all, "NetworkPolicy").spec.ingress.flatMap((rule: any) => rule.ports.map(({ port }: any) => port)),
        ofKind(all, "PodMonitor").spec.podMetricsEndpoints[0].port,
      ];
      for (const name of named) expect(ports.has(name)).toBe(true);
      expect(ofKind(all, "HTTPRoute").spec.rules).toEqual([
        {
          backendRefs: [{ name: service.metadata.name, port: service.spec.ports[0].port }],
          timeouts: { request: "0s", backendRequest: "0s" },
        },
      ]);
      const { metadata, spec: cluster } = ofKind(all, "Cluster");
      const { database, owner } = cluster.bootstrap.initdb;
      const { parse } = await import(join(clientTools, "node_modules/yaml/dist/index.js"));
      const patch = parse(await read("components/cloudnative-pg/deployment-patch.yaml"));
      const urlOf = (kind: string) => `postgresql://${owner}@${metadata.name}-${kind}:5432/${database}`;
      expect(patch.spec.template.spec.containers[0].env).toEqual([
        { name: "DATABASE_URL", value: urlOf("rw") },
        { name: "DATABASE_READ_URL", value: urlOf("ro") },
        {
          name: "DATABASE_PASSWORD",
          valueFrom: { secretKeyRef: { name: `${metadata.name}-app`, key: "password" } },
        },
      ]);
      const labels = deployment.spec.template.metadata.labels;
      for (const selector of [
        deployment.spec.selector.matchLabels,
        service.spec.selector,
        ofKind(all, "PodDisruptionBudget").spec.selector.matchLabels,
        ofKind(all, "NetworkPolicy").spec.podSelector.matchLabels,
        ofKind(all, "PodMonitor").spec.selector.matchLabels,
      ]) {
        expect(selector).toEqual(labels);
      }
      const scaled = [ofKind(all, "HorizontalPodAutoscaler"), ofKind(all, "ScaledObject")];
      for (const { spec } of scaled) expect(spec.scaleTargetRef.name).toBe(deployment.metadata.name);
      const { shutdownDelaySeconds, shutdownGraceSeconds } = config;
      expect(pod.terminationGracePeriodSeconds).toBe(shutdownDelaySeconds + shutdownGraceSeconds + 10);
      const { periodSeconds, failureThreshold } = container.readinessProbe;
      expect(periodSeconds * failureThreshold).toBe(config.databaseFailoverSeconds);
      expect(JSON.stringify(deployment)).toContain('"readOnlyRootFilesystem":true');
      expect(pod.securityContext.runAsNonRoot).toBe(true);
    });

    it("have an encoder for each core that the container may use, whatever the node has", async () => {
      const [container] = ofKind(all, "Deployment").spec.template.spec.containers;
      expect(container.env).toContainEqual({
        name: "ENCODERS",
        valueFrom: { resourceFieldRef: { containerName: container.name, resource: "limits.cpu" } },
      });
      // Without a limit, Kubernetes would give the number of cores of the node. It rounds up.
      const cores = Math.ceil(Number(container.resources.limits.cpu));
      expect(readConfig({ ENCODERS: String(cores) }).encoders).toBe(cores);
      expect(Number(container.resources.requests.cpu)).toBeLessThanOrEqual(cores);
      // Nothing else may decide it: a later source of variables loses to this one, but the file would say something untrue.
      expect(Object.keys(envOf(await read("base/settings.env")))).not.toContain("ENCODERS");
    });

    it("have the alerts of deploy/observability", async () => {
      const { parse } = await import(join(clientTools, "node_modules/yaml/dist/index.js"));
      const rules = parse(await readFile(join(root, "deploy/observability/rules.yml"), "utf8"));
      expect(ofKind(all, "PrometheusRule").spec).toEqual(rules);
    });

    it("name only settings that exist", async () => {
      const known = new Set(settingEntries.map(([field]) => variableName(field)));
      const names = (await readdir(folder, { recursive: true })).filter(
        (name) => /\.(yaml|env)$/.test(name) && !name.includes("rule"),
      );
      const texts = await Promise.all(names.map(read));
      const code = texts.join("\n").replaceAll(/#.*$/gm, "");
      const named = [...code.matchAll(/\b([A-Z][A-Z\d]*(?:_[A-Z\d]+)+)\b/g)].map(([, name]) => name!);
      expect(named.length).toBeGreaterThan(12);
      expect(named.filter((name) => !known.has(name))).toEqual([]);
    });

    it("are each named by the kustomization of their folder, which names nothing else", async () => {
      const all = (await readdir(folder, { recursive: true })).filter((name) => /\.(yaml|env)$/.test(name));
      const kustomizations = all.filter((name) => name.endsWith("kustomization.yaml"));
      const named = await Promise.all(
        kustomizations.map(async (name) => {
          const files = (await read(name)).matchAll(/(?<=[\s[])([\w-]+\.(?:yaml|env))(?=[\s\],]|$)/gm);
          return [...files].map(([, file]) => relative(folder, join(folder, dirname(name), file!)));
        }),
      );
      expect([...kustomizations, ...named.flat()].toSorted()).toEqual(all.toSorted());
    });

    const kustomize = ["kubectl", "kustomize"] as const;
    needsSystem("a kubectl with kustomize 5, which Debian 12 does not have", runs(...kustomize, "--help"), () => {
      it("build to objects of their APIs, whose settings the service accepts", async () => {
        const build = async (name: string) =>
          (await promisify(execFile)("kubectl", ["kustomize", join(folder, name)])).stdout;
        const [base, example] = await Promise.all([check(await build("base")), check(await build("example"))]);
        expect([base.faults, example.faults]).toEqual([[], []]);
        for (const built of [base, example]) {
          const [container] = ofKind(built, "Deployment").spec.template.spec.containers;
          const decoded = Object.entries<string>(ofKind(built, "Secret").data).map(([name, value]) => [
            name,
            Buffer.from(value, "base64").toString(),
          ]);
          const given = container.env.map(({ name, value }: any) => [name, value ?? "2"]);
          const env = { ...ofKind(built, "ConfigMap").data, ...Object.fromEntries([...decoded, ...given]) };
          expect(readConfig(env)).toMatchObject({ production: true, encoders: 2, metricsPort: 9090 });
          expect(container.envFrom).toEqual([
            { configMapRef: { name: ofKind(built, "ConfigMap").metadata.name } },
            { secretRef: { name: ofKind(built, "Secret").metadata.name } },
          ]);
        }
        expect(ofKind(base, "HorizontalPodAutoscaler").spec.minReplicas).toBe(2);
        // KEDA makes its own.
        expect(ofKind(example, "HorizontalPodAutoscaler")).toBeUndefined();
      });
    });
  });
});

/** The variables of an env file. */
function envOf(text: string): Record<string, string> {
  return Object.fromEntries([...text.matchAll(/^(\w+)=(.*)$/gm)].map(([, name, value]) => [name!, value!]));
}
