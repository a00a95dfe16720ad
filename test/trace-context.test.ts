import { describe, expect, it } from "@jest/globals";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { traceIdOf } from "../src/telemetry/trace-context.ts";
import { startServiceProcess } from "./support/service-process.ts";
import { createTestDatabase } from "./support/test-database.ts";
import { until } from "./support/until.ts";

const traceId = "0af7651916cd43dd8448eb211c80319c";
const parentId = "b7ad6b7169203331";

describe("the trace id of a request", () => {
  it.each([
    ["of this version", `00-${traceId}-${parentId}-01`],
    ["that is not recorded", `00-${traceId}-${parentId}-00`],
    ["of a later version", `cc-${traceId}-${parentId}-01`],
    ["of a later version, with more than we know", `cc-${traceId}-${parentId}-01-what-will-be`],
  ])("is read from a traceparent %s", (_what, header) => {
    expect(traceIdOf(header)).toBe(traceId);
  });

  it.each([
    ["no header", undefined],
    ["an empty one", ""],
    ["several headers", [`00-${traceId}-${parentId}-01`]],
    ["several headers in one line", `00-${traceId}-${parentId}-01, 00-${traceId}-${parentId}-01`],
    ["capitals", `00-${traceId.toUpperCase()}-${parentId}-01`],
    ["a trace id of zeros", `00-${"0".repeat(32)}-${parentId}-01`],
    ["a parent of zeros", `00-${traceId}-${"0".repeat(16)}-01`],
    ["the version that is never used", `ff-${traceId}-${parentId}-01`],
    ["more than this version has", `00-${traceId}-${parentId}-01-more`],
    ["no dash before what is more", `cc-${traceId}-${parentId}-01.more`],
    ["a short id", `00-${traceId.slice(1)}-${parentId}-01`],
    ["a long id", `00-${traceId}0-${parentId}-01`],
    ["a space", ` 00-${traceId}-${parentId}-01`],
    ["a line feed", `00-${traceId}-${parentId}-01\n`],
    ["text for the log", `00-${traceId}","level":60,"x":"${parentId}-01`],
  ])("is not read from %s", (_what, header) => {
    expect(traceIdOf(header)).toBeUndefined();
  });

  it("is in each line of the log about the request, and no other", async () => {
    await using database = await createTestDatabase();
    await using service = await startServiceProcess({ DATABASE_URL: database.url, LOG_LEVEL: "debug" });
    const get = async (traceparent: string) =>
      await (await fetch(`${service.url}/schema.graphql`, { headers: { traceparent } })).arrayBuffer();
    await get(`00-${traceId}-${parentId}-01`);
    await get(`00-${traceId}-nothing-01`);
    const lines = await until(
      () => service.log.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line)),
      (parsed) => parsed.filter(({ msg }) => msg === "request completed").length === 2,
    );
    const ofRequests = lines.filter(({ reqId }) => reqId !== undefined);
    const [first] = ofRequests;
    expect(ofRequests.length).toBeGreaterThanOrEqual(4);
    for (const { reqId, trace_id: found } of ofRequests)
      expect(found).toBe(reqId === first.reqId ? traceId : undefined);
    expect(lines.filter(({ reqId }) => reqId === undefined).every((line) => !("trace_id" in line))).toBe(true);
  });
});

/**
 * What `tracing.mjs` writes into a span about each of these statements and requests. The packages that it imports are not installed, so
 * a module that keeps the options is in their place.
 */
function recordedOf(
  statements: readonly string[],
  addresses: readonly string[] = [],
): { recorded: Record<string, string>[]; addresses: Record<string, string>[]; http: object } {
  const packages = `export const register = () => {};
    export class HttpInstrumentation { constructor(options) { globalThis.http = options; } }
    export class PgInstrumentation { constructor(options) { globalThis.options = options; } }
    export class NodeSDK { start() {} }`;
  const program = `import { registerHooks } from "node:module";
    const url = "data:text/javascript," + ${JSON.stringify(encodeURIComponent(packages))};
    registerHooks({ resolve: (name, context, next) =>
      /^@opentelemetry|^node:module$/.test(name) ? { url, shortCircuit: true } : next(name, context) });
    await import(process.argv[1]);
    const recorded = ${JSON.stringify(statements)}.map((text) => {
      let attributes;
      globalThis.options.requestHook({ setAttributes: (values) => (attributes = values) }, { query: { text } });
      return attributes;
    });
    const addresses = ${JSON.stringify(addresses)}.map((url) => globalThis.http.startIncomingSpanHook({ url }));
    console.log(JSON.stringify({ recorded, addresses, http: globalThis.http }));`;
  const tracing = join(import.meta.dirname, "../../deploy/observability/tracing.mjs");
  return JSON.parse(
    execFileSync(process.execPath, ["--input-type=module", "-e", program, tracing], { encoding: "utf8" }),
  );
}

it("OpenTelemetry gets of a statement its verb and its table, and no value", () => {
  const secret = "Ann from secret";
  const statements = {
    [`insert into "app_user" ("name") values ('${secret}')`]: "insert app_user",
    [`update "audio_record" set "title" = 'O''Neil from secret' where "id" = $1`]: "update audio_record",
    [`select '${secret}' as "name", "n" from "app_user" where "name" = E'\\\\ from secret'`]: "select app_user",
    [`delete from "mp3_chunk" where "record_id" = '${secret}'`]: "delete mp3_chunk",
    [`insert into "mp3_chunk" ("bytes") values ('\\x${"ff".repeat(5000)}') returning "secret"`]: "insert mp3_chunk",
    [`with "gone" as (delete from "mp3_chunk" returning 1) select 'secret'`]: "with mp3_chunk",
    [`copy (select "bytes" from "mp3_chunk" where "record_id" = 'secret') to stdout`]: "copy mp3_chunk",
    [`select '${"x".repeat(3000)} from secret'`]: "select",
    "begin isolation level read committed": "begin",
    "": "",
  };
  expect(recordedOf(Object.keys(statements)).recorded).toEqual(
    Object.values(statements).map((words) => ({ "db.query.text": words, "db.statement": words })),
  );
});

it("OpenTelemetry gets of an address its first part, because the rest may be a secret", () => {
  const paths = {
    "/l/secret": "/l",
    "/record?id=secret": "/record",
    "/secret": "/",
    "/uploads/secret?x=secret": "/uploads",
    "http://music/l/secret": "/",
  };
  const { addresses, http } = recordedOf([], Object.keys(paths));
  expect(addresses.map((attributes) => attributes["url.path"])).toEqual(Object.values(paths));
  expect(JSON.stringify(addresses)).not.toContain("secret");
  expect(http).toMatchObject({ disableOutgoingRequestInstrumentation: true });
});
