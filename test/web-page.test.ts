import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { request } from "node:http";
import { once } from "node:events";
import { startService, type TestService } from "./support/service.ts";

const root = join(import.meta.dirname, "../..");

describe("the address of the service", () => {
  let service: TestService;

  beforeAll(async () => void (service = await startService({ NODE_ENV: "production" })));

  afterAll(async () => await service[Symbol.asyncDispose]());

  const open = async (path: string, headers: Record<string, string> = {}): Promise<Response> =>
    await fetch(service.url + path, { headers: { accept: "text/html", ...headers }, redirect: "manual" });

  const assetsOf = async (): Promise<string[]> =>
    [...(await (await open("/")).text()).matchAll(/(?:src|href)="\.\/(assets\/[^"]+)"/g)].map(([, path]) => `/${path}`);

  it("shows a browser the page, under a policy that lets nothing else run", async () => {
    const response = await open("/");
    expect([response.status, response.headers.get("content-type")]).toEqual([200, "text/html; charset=utf-8"]);
    const html = await response.text();
    expect(html).toContain("<title>web-user-music</title>");
    expect(html).not.toMatch(/<script(?![^>]* src=)|<style|\bstyle=|[\s<]on\w+=/);
    const policy = response.headers.get("content-security-policy")!.split(";");
    expect(policy).toEqual(
      expect.arrayContaining([
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types app",
      ]),
    );
    expect(response.headers.get("permissions-policy")).toContain("microphone=(self)");
    expect(response.headers.get("vary")).toContain("Accept");
    const again = await open("/", { "if-none-match": response.headers.get("etag")! });
    expect([response.headers.get("cache-control"), again.status]).toEqual(["no-cache", 304]);
  });

  it("tells programs its addresses in JSON", async () => {
    for (const accept of ["*/*", "application/json"]) {
      const response = await open("/", { accept });
      expect(await response.json()).toEqual({
        service: "web-user-music",
        graphql: "/graphql",
        schema: "/schema.graphql",
      });
    }
  });

  it("sends what the page loads once and for good, compressed if the browser can read that", async () => {
    const assets = await assetsOf();
    expect(assets.length).toBeGreaterThanOrEqual(3);
    for (const path of assets) {
      const bodies: Record<string, Buffer> = {};
      for (const accept of ["br, gzip", "gzip", "identity", "br;q=0, gzip;q=0"]) {
        const sent = request(service.url + path, { headers: { "accept-encoding": accept } }).end();
        const [response] = await once(sent, "response");
        const pieces: Buffer[] = [];
        for await (const piece of response) pieces.push(piece);
        expect(response.statusCode).toBe(200);
        expect(response.headers["cache-control"]).toBe("public, max-age=31536000, immutable");
        expect(response.headers.vary).toContain("Accept-Encoding");
        expect(response.headers["x-content-type-options"]).toBe("nosniff");
        bodies[accept] = Buffer.concat(pieces);
        expect([accept, response.headers["content-encoding"]]).toEqual([
          accept,
          { "br, gzip": "br", gzip: "gzip" }[accept],
        ]);
        expect(Number(response.headers["content-length"])).toBe(bodies[accept].length);
      }
      expect(bodies["identity"]).toEqual(bodies["br;q=0, gzip;q=0"]);
      expect(Buffer.from(await (await open(path)).arrayBuffer())).toEqual(bodies["identity"]);
    }
    for (const path of ["/assets/no.js", "/assets/..%2Findex.html", "/assets/index.js.br", "/assets"]) {
      expect([path, (await open(path)).status]).toEqual([path, 404]);
    }
  });

  it("weighs less than 35 kB with all that it loads, and the dialogs that come later less than 8 kB", async () => {
    const names = new Set<string>();
    const look = async (path: string): Promise<void> => {
      if (names.has(path)) return;
      names.add(path);
      const text = await (await open(path)).text();
      for (const [, name] of text.matchAll(/["'`(/]([\w.-]+-[\w-]{8}\.(?:js|css|svg))\b/g))
        await look(`/assets/${name}`);
    };
    for (const path of await assetsOf()) await look(path);
    // In brotli, but for the few lines of HTML.
    const weightOf = async (paths: Iterable<string>): Promise<number> => {
      let bytes = 0;
      for (const path of paths) {
        const sent = request(service.url + path, { headers: { accept: "text/html", "accept-encoding": "br" } }).end();
        const [response] = await once(sent, "response");
        for await (const piece of response) bytes += piece.length;
      }
      return bytes;
    };
    // They are loaded when somebody opens the first one.
    const later = [...names].filter((name) => name.includes("dialogs"));
    expect(later).toHaveLength(1);
    names.delete(later[0]!);
    expect(names.size).toBe(5); // the script, its style, its picture, and two workers
    expect(await weightOf(["/", ...names])).toBeLessThan(35_000);
    expect(await weightOf(later)).toBeLessThan(8000);
  });

  it("shows no page where the operator has switched it off", async () => {
    await using without = await startService({ DATABASE_URL: service.databaseUrl, WEB_PAGE: "false" });
    const sandbox = await fetch(without.url, { headers: { accept: "text/html" }, redirect: "manual" });
    expect([sandbox.status, sandbox.headers.get("location")]).toEqual([302, "/graphql"]);
    expect((await fetch(`${without.url}${(await assetsOf())[0]}`)).status).toBe(404);
  });
});

describe("the build of the page", () => {
  it("uses the types of the committed schema: npm run schema writes them", async () => {
    const folder = await mkdtemp(join(tmpdir(), "page-types-"));
    try {
      const written = join(folder, "operations.ts");
      await promisify(execFile)(process.execPath, [join(root, "web/generate-operations.ts"), written], { cwd: root });
      expect(await readFile(written, "utf8")).toBe(await readFile(join(root, "web/api/operations.ts"), "utf8"));
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  // npm leaves out bindings of other platforms if their packages were missing when the lock was written.
  it("finds its bundler on every platform", async () => {
    const { packages } = JSON.parse(await readFile(join(root, "package-lock.json"), "utf8"));
    for (const platform of ["darwin-arm64", "darwin-x64", "linux-arm64-gnu", "linux-x64-gnu", "win32-x64-msvc"]) {
      expect(packages).toHaveProperty([`node_modules/@rolldown/binding-${platform}`]);
      expect(packages).toHaveProperty([`node_modules/lightningcss-${platform}`]);
    }
  });
});
