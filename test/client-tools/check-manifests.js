// Reads Kubernetes objects, as YAML from standard input, and writes them as JSON, with what is wrong with
// them. They are judged twice: by the validators of kubernetes-models, which know required keys, formats and ranges, and, as these let unknown
// keys pass, as literals of its TypeScript types, for which tsc reads the file that is named as argument.
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { text } from "node:stream/consumers";
import { parseAllDocuments } from "yaml";

const packages = {
  "gateway.networking.k8s.io": "@kubernetes-models/gateway-api",
  "keda.sh": "@kubernetes-models/keda",
  "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
  "postgresql.cnpg.io": "@kubernetes-models/cloudnative-pg",
};

const documents = parseAllDocuments(await text(process.stdin), { uniqueKeys: true });
const objects = documents.map((document) => document.toJS()).filter(Boolean);
// kustomize puts long values into several lines, which Kubernetes joins.
for (const { kind, data = {} } of objects) {
  if (kind === "Secret") for (const [key, value] of Object.entries(data)) data[key] = value.replaceAll("\n", "");
}
const unreadable = documents.flatMap(({ errors }) => errors.map(({ message }) => message));

const faults = [];
let literals = "";
for (const [at, object] of objects.entries()) {
  const [group, version] = object.apiVersion.includes("/") ? object.apiVersion.split("/") : ["", object.apiVersion];
  const module = `${packages[group] ?? "kubernetes-models"}/${group === "" ? version : `${group}/${version}`}/${object.kind}`;
  const name = `${object.kind} ${object.metadata?.name}`;
  try {
    const { [object.kind]: Model } = await import(module);
    new Model(object).validate();
    const path = fileURLToPath(import.meta.resolve(module));
    literals += `import type { I${object.kind} as T${at} } from ${JSON.stringify(path)};\n`;
    literals += `export const object${at}: T${at} = ${JSON.stringify(object, undefined, 1)};\n`;
  } catch (error) {
    faults.push(`${name}: ${error.message}`);
  }
}
writeFileSync(process.argv[2], literals);
process.stdout.write(JSON.stringify({ objects, faults: [...unreadable, ...faults] }));
