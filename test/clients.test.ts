/// <reference lib="dom" />
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, extname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { buffer } from "node:stream/consumers";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { openBrowser } from "./support/browser.ts";
import { clientTools, needs, okHttpJars, pythonWithRequests } from "./support/needs.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

const root = join(import.meta.dirname, "../..");
const examples = join(root, "examples");
const tone = join(examples, "tone.wav");

describe("the examples for client developers", () => {
  let service: TestService;
  /** Refuses the example's file as too large. */
  let strict: TestService;
  let ann: Credentials;
  /** Serves the page of the browser example from an origin other than the service's. */
  let pages: Server;
  let pagesUrl: string;

  beforeAll(async () => {
    const page = await readFile(join(examples, "progress.html"));
    pages = createServer((_request, response) => response.setHeader("content-type", "text/html").end(page));
    await new Promise<void>((resolve) => pages.listen(0, "127.0.0.1", resolve));
    pagesUrl = `http://127.0.0.1:${(pages.address() as AddressInfo).port}`;
    service = await startService({ CORS_ORIGINS: pagesUrl });
    strict = await startService({
      CORS_ORIGINS: pagesUrl,
      DATABASE_URL: service.databaseUrl,
      MAX_UPLOAD_BYTES: "50000",
    });
    ann = await new ApiClient(service.url).createUser("Ann");
  });

  afterAll(async () => {
    await strict?.[Symbol.asyncDispose]();
    await service?.[Symbol.asyncDispose]();
    pages?.close();
  });

  /** Runs an example as its first line says. */
  async function runExample(command: readonly string[], token: string, url = service.url): Promise<Ended> {
    const env = { PATH: process.env.PATH, ENDPOINT: `${url}/graphql`, TOKEN: token };
    return await run([...command, tone], env);
  }

  const programs = ["fetch.mjs", "axios.mjs", "apollo-client.mjs", "urql.mjs"];
  describe.each(programs)("%s", (name) => {
    declareTests(name, [process.execPath, join(examples, name)]);
  });

  needs("curl", () => {
    describe("upload.sh", () => {
      declareTests("upload.sh", ["sh", join(examples, "upload.sh")]);
    });
  });

  needs("requests for Python", () => {
    describe("upload.py", () => {
      declareTests("upload.py", [pythonWithRequests()!, join(examples, "upload.py")]);
    });
  });

  needs("the client tools", () => {
    needs("Java", () => {
      needs("OkHttp for Java", () => {
        describe("Upload.kt", () => {
          const kotlin = join(clientTools, "node_modules/kotlin-compiler");
          const folder = join(root, "dist/kotlin");

          beforeAll(async () => {
            const compiler = join(kotlin, "bin/kotlinc");
            await compile("bash", compiler, join(examples, "Upload.kt"), "-cp", okHttpJars, "-d", folder);
          });

          const classPath = [folder, okHttpJars, join(kotlin, "lib/kotlin-stdlib.jar")].join(delimiter);
          declareTests("Upload.kt", ["java", "-cp", classPath, "UploadKt"]);
        });
      });
    });
  });

  needs("Swift", () => {
    describe("Upload.swift", () => {
      const program = join(root, "dist/upload-swift");
      beforeAll(async () => await compile("swiftc", join(examples, "Upload.swift"), "-o", program));
      declareTests("Upload.swift", [program]);
    });
  });

  needs("Mono", () => {
    describe("Upload.cs", () => {
      const program = join(root, "dist/upload.exe");
      const libraries = ["-r:System.Net.Http", "-r:System.Runtime.Serialization"];
      beforeAll(async () => await compile("mcs", ...libraries, join(examples, "Upload.cs"), `-out:${program}`));
      declareTests("Upload.cs", ["mono", program]);
    });
  });

  async function compile(...command: readonly string[]): Promise<void> {
    const { code, stderr } = await run(command, process.env);
    if (code !== 0) throw new Error(stderr);
  }

  function declareTests(name: string, command: readonly string[]): void {
    /** What an example prints when it is refused: the curl script prints the response, the others one line. */
    const told = (stderr: string): string => {
      if (name !== "upload.sh") return stderr;
      const { errors } = JSON.parse(stderr);
      expect(errors).toEqual([
        { message: expect.any(String), extensions: expect.objectContaining({ code: expect.any(String) }) },
      ]);
      return `${errors[0].extensions.code} ${errors[0].message}\n`;
    };

    it("prints a link that opens, and nothing else", async () => {
      const { code, stdout, stderr } = await runExample(command, ann.token);
      const { data } = await new ApiClient(service.url).run("{ me { records(first: 1) { nodes { url } } } }", {}, ann);
      const [{ url }] = data.me.records.nodes;
      expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: `${url}\n`, stderr: "" });
      const mp3 = await fetch(url);
      expect([mp3.status, mp3.headers.get("content-type")]).toEqual([200, "audio/mpeg"]);
      await mp3.body?.cancel();
    });

    it("prints the code and the sentence of a refusal, and nothing else", async () => {
      const { code, stdout, stderr } = await runExample(command, "wrong");
      expect({ code, stdout, told: told(stderr) }).toEqual({
        code: 1,
        stdout: "",
        told: "UNAUTHENTICATED The token is unknown, revoked or expired. Use another one.\n",
      });
      const large = await runExample(command, ann.token, strict.url);
      expect({ ...large, stderr: told(large.stderr) }).toEqual({
        code: 1,
        stdout: "",
        stderr: "UPLOAD_TOO_LARGE The file has more than 50000 bytes.\n",
      });
    });
  }

  it.each(programs)("%s prints a line when nobody answers", async (name) => {
    const gone = createServer().listen(0, "127.0.0.1");
    await once(gone, "listening");
    const nowhere = `http://127.0.0.1:${(gone.address() as AddressInfo).port}`;
    await gone[Symbol.asyncDispose]();
    const { code, stdout, stderr } = await runExample([process.execPath, join(examples, name)], ann.token, nowhere);
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toMatch(/^[^\n]+\n$/);
  });

  needs("curl", () => {
    it("store one record with curl, although the first answer is lost and the service then busy", async () => {
      const bob = await new ApiClient(service.url).createUser("Bob");
      await using proxy = await startUnreliableProxy(service.url);
      const { code, stdout } = await runExample(["sh", join(examples, "upload.sh")], bob.token, proxy.url);
      expect(code).toBe(0);
      expect(proxy.requests).toBe(3);
      const { data } = await new ApiClient(service.url).run("{ me { records { nodes { id } } } }", {}, bob);
      expect(data.me.records.nodes).toEqual([{ id: new URL(stdout.trim()).searchParams.get("id") }]);
    });
  });

  needs("Chromium", () => {
    it("show the progress of an upload in a browser, and then a link and a player", async () => {
      await using browser = await openBrowser();
      const page = await browser.newPage();
      page.setDefaultTimeout(120_000); // against hanging only: a busy machine may need more than the usual 30 s
      await page.goto(pagesUrl);
      await page.fill("[name=endpoint]", `${service.url}/graphql`);
      await page.fill("[name=token]", ann.token);
      const minute = sineWav({ seconds: 60 });
      await page.setInputFiles("[name=file]", { name: "minute.wav", mimeType: "audio/wav", buffer: minute });
      await page.evaluate(() => {
        const seen: number[] = Object.assign(globalThis, { seen: [] }).seen;
        const bar = document.querySelector("progress")!;
        new MutationObserver(() => seen.push(bar.value)).observe(bar, { attributes: true });
      });
      await page.click("button");
      await page.waitForSelector("output a");

      const seen = await page.evaluate(() => (globalThis as unknown as { seen: number[] }).seen);
      expect(seen.length).toBeGreaterThan(1);
      expect(seen).toEqual(seen.toSorted((a, b) => a - b));
      expect(seen.at(-1)).toBe(1);
      expect(await page.textContent("output a")).toBe("minute");
      await page.waitForFunction(() => (document.querySelector("audio")?.duration ?? 0) > 59);

      const refusal = async (): Promise<string | null> => {
        await page.click("button");
        await page.waitForFunction(() => /^[A-Z_]+: /.test(document.querySelector("output")?.textContent ?? ""));
        return await page.textContent("output");
      };
      await page.fill("[name=token]", "wrong");
      expect(await refusal()).toBe("UNAUTHENTICATED: The token is unknown, revoked or expired. Use another one.");
      await page.fill("[name=endpoint]", `${strict.url}/graphql`);
      expect(await refusal()).toBe("UPLOAD_TOO_LARGE: The file has more than 50000 bytes.");
    });
  });

  needs("Chromium", () => {
    it("open from disk, as the page says", async () => {
      await using development = await startService({ DATABASE_URL: service.databaseUrl });
      await using browser = await openBrowser();
      const page = await browser.newPage();
      page.setDefaultTimeout(120_000); // against hanging only: a busy machine may need more than the usual 30 s
      await page.goto(pathToFileURL(join(examples, "progress.html")).href);
      await page.fill("[name=endpoint]", `${development.url}/graphql`);
      await page.fill("[name=token]", ann.token);
      await page.setInputFiles("[name=file]", tone);
      await page.click("button");
      await page.waitForSelector("output a");
      expect(await page.textContent("output a")).toBe("tone");
    });
  });

  describe("codegen", () => {
    /** A copy of the example beside the generated files. It is inside the project, so that it finds the packages. */
    let folder: string;
    let source: string;

    beforeAll(async () => {
      folder = await mkdtemp(join(root, "dist/codegen-"));
      source = await readFile(join(examples, "codegen/upload.ts"), "utf8");
      const generator = join(import.meta.dirname, "support/generate-types.js");
      const { code, stderr } = await run([process.execPath, generator, folder], process.env);
      if (code !== 0) throw new Error(stderr);
      const compilerOptions = {
        target: "es2024",
        lib: ["es2024", "dom"],
        module: "nodenext",
        types: ["node"],
        strict: true,
        noEmit: true,
        allowImportingTsExtensions: true,
        erasableSyntaxOnly: true,
        verbatimModuleSyntax: true,
        skipLibCheck: true,
      };
      await writeFile(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["upload.ts"] }));
    });

    afterAll(async () => await rm(folder, { recursive: true, force: true }));

    async function check(text: string): Promise<Ended> {
      await writeFile(join(folder, "upload.ts"), text);
      return await run([process.execPath, join(root, "node_modules/typescript/bin/tsc"), "-p", folder], process.env);
    }

    it("compiles, and runs against the service", async () => {
      expect(await check(source)).toEqual({ code: 0, stdout: "", stderr: "" });
      const cat = await new ApiClient(service.url).createUser("Cat");
      const command = [process.execPath, join(folder, "upload.ts")];
      const { code, stdout, stderr } = await runExample(command, cat.token);
      const { data } = await new ApiClient(service.url).run("{ me { records { nodes { url } } } }", {}, cat);
      expect({ code, stdout, stderr }).toEqual({
        code: 0,
        stdout: `${data.me.records.nodes[0].url}\nTone: 2.0 s\n`,
        stderr: "",
      });
      expect(await runExample(command, "wrong")).toEqual({
        code: 1,
        stdout: "",
        stderr: "UNAUTHENTICATED The token is unknown, revoked or expired. Use another one.\n",
      });
      expect(await runExample(command, cat.token, strict.url)).toEqual({
        code: 1,
        stdout: "",
        stderr: "UPLOAD_TOO_LARGE The file has more than 50000 bytes.\n",
      });
    });

    it.each([
      ["a variable of a wrong type", 'title: "Tone"', "title: 1"],
      ["a variable that is missing", "{ file, title", "{ title"],
      ["a field that the document does not ask for", "record.url", "record.sizeBytes"],
    ])("does not compile with %s", async (_fault, right, wrong) => {
      expect(source).toContain(right);
      const { code, stdout } = await check(source.replace(right, wrong));
      expect(code).not.toBe(0);
      expect(stdout).toContain("upload.ts");
    });
  });

  it("stand in docs/clients.md as they are", async () => {
    const page = await readFile(join(root, "docs/clients.md"), "utf8");
    const files = await readdir(examples, { recursive: true, withFileTypes: true });
    const missing: string[] = [];
    for (const file of files.filter((entry) => entry.isFile() && entry.name !== "tone.wav")) {
      const text = await readFile(join(file.parentPath, file.name), "utf8");
      const language = extname(file.name).slice(1).replace("mjs", "js");
      if (!page.includes(`\n\`\`\`${language}\n${text}\`\`\`\n`)) missing.push(file.name);
    }
    expect(missing).toEqual([]);
  });
});

interface UnreliableProxy extends AsyncDisposable {
  readonly url: string;
  /** Number of requests so far. */
  readonly requests: number;
}

/** A proxy that loses the first response and refuses the second request as busy. */
async function startUnreliableProxy(serviceUrl: string): Promise<UnreliableProxy> {
  let requests = 0;
  const proxy = createServer(async (request, response) => {
    const number = ++requests;
    const body = await buffer(request);
    if (number === 2) {
      response.writeHead(503).end('{"errors":[{"message":"Later","extensions":{"code":"BUSY"}}]}');
      return;
    }
    const headers = Object.fromEntries(
      Object.entries(request.headersDistinct).map(([name, values]) => [name, values![0]!]),
    );
    delete headers.connection;
    const answer = await fetch(serviceUrl + request.url, { method: "POST", headers, body });
    const text = await answer.text();
    if (number === 1) request.socket.destroy();
    else response.writeHead(answer.status).end(text);
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    get requests() {
      return requests;
    },
    async [Symbol.asyncDispose]() {
      await proxy[Symbol.asyncDispose]();
    },
  };
}

interface Ended {
  /** The exit code. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. */
async function run([program, ...args]: readonly string[], env: NodeJS.ProcessEnv): Promise<Ended> {
  return await new Promise((resolve) => {
    const child = execFile(program!, args, { env, cwd: tmpdir() }, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}
