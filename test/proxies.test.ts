import { expect, it } from "@jest/globals";
import { execFile, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, request, type IncomingMessage } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { needs } from "./support/needs.ts";
import { until } from "./support/until.ts";

const folder = join(import.meta.dirname, "../../deploy/scale");
const env = { PATH: `${process.env.PATH}:/usr/sbin` }; // where Debian puts them

/** A folder for one test, with a stand-in for a replica at its socket `replica`. */
async function withReplica<T>(test: (own: string) => Promise<T>): Promise<T> {
  const own = await mkdtemp(join(tmpdir(), "proxy-"));
  await chmod(own, 0o777); // a proxy that root starts works as another user
  const replica = createServer((incoming, answer) => void answer.end(`${incoming.method}`));
  try {
    replica.listen({ path: join(own, "replica"), readableAll: true, writableAll: true });
    await once(replica, "listening");
    return await test(own);
  } finally {
    replica.closeAllConnections();
    replica.close();
    await rm(own, { recursive: true });
  }
}

/** The status of a response from a proxy at a socket, or `none` while it does not listen. */
async function statusOf(socketPath: string, path: string): Promise<number | "none"> {
  const sent = request({
    socketPath,
    path,
    headers: { referer: `https://music.example.com${path}` },
    agent: false,
  }).end();
  try {
    const [answer]: IncomingMessage[] = await once(sent, "response");
    await answer!.toArray();
    return answer!.statusCode!;
  } catch {
    return "none";
  }
}

/** Sends what has secrets, and waits until the log has a line about each. Returns these lines. */
async function logAbout(socket: string, log: () => Promise<string> | string): Promise<string[]> {
  await until(
    async () => await statusOf(socket, "/healthz"),
    (status) => status === 200,
  );
  const addresses = ["/l/secret", "/uploads/secret", "/play/secret", "/record?id=secret", "/secret", "/?token=secret"];
  for (const address of addresses) expect(await statusOf(socket, address)).toBe(200);
  const about = async (): Promise<string[]> =>
    (await log()).split("\n").filter((line) => line.includes(" GET ") && !line.includes(" healthz "));
  return await until(about, (lines) => lines.length === addresses.length);
}

const firstParts = ["l", "uploads", "play", "record", "other", "other"];

needs("HAProxy", () => {
  it("HAProxy takes its recipe without a warning", () => {
    expect(execFileSync("haproxy", ["-c", "-V", "-f", join(folder, "haproxy.cfg")], { env, encoding: "utf8" })).toBe(
      "Configuration file is valid\n",
    );
  });

  /** Runs HAProxy with its recipe at the socket `front`, before one replica at another socket, which may be absent, and hands over its log. */
  async function withHaproxy(own: string, replica: string, test: (log: () => string) => Promise<void>) {
    const recipe = (await readFile(join(folder, "haproxy.cfg"), "utf8"))
      .replace("bind :8000", `bind unix@${own}/front`)
      .replace(/server-template .*/, `server replica unix@${own}/${replica}`);
    await writeFile(join(own, "haproxy.cfg"), recipe);
    const haproxy = spawn("haproxy", ["-db", "-f", join(own, "haproxy.cfg")], {
      env,
      stdio: ["ignore", "pipe", "ignore"],
    });
    let log = "";
    haproxy.stdout.on("data", (bytes) => (log += bytes));
    try {
      await test(() => log);
    } finally {
      haproxy.kill("SIGKILL");
      await once(haproxy, "close");
    }
  }

  it("HAProxy answers with a code of the service's while there is no replica", async () => {
    await withReplica(async (own) => {
      await withHaproxy(own, "stopped", async () => {
        const front = join(own, "front");
        await until(
          async () => await statusOf(front, "/graphql"),
          (status) => status === 503,
        );
        const sent = request({ socketPath: front, path: "/graphql", agent: false }).end();
        const [answer]: IncomingMessage[] = await once(sent, "response");
        const { errors, error } = JSON.parse(Buffer.concat(await answer!.toArray()).toString());
        expect([answer!.statusCode, answer!.headers["retry-after"]]).toEqual([503, "5"]);
        expect([errors[0].extensions, error]).toEqual([
          { code: "BUSY", retryAfterSeconds: 5 },
          { code: "BUSY", retryAfterSeconds: 5, message: errors[0].message },
        ]);
      });
    });
  });

  it("HAProxy logs no secret of an address", async () => {
    await withReplica(async (own) => {
      await withHaproxy(own, "replica", async (log) => {
        const lines = await logAbout(join(own, "front"), log);
        expect(lines.map((line) => / 200 .* GET (\S+) HTTP/.exec(line)?.[1])).toEqual(firstParts);
        expect(log()).not.toContain("secret");
      });
    });
  });
});

needs("nginx", () => {
  it("nginx takes its recipe, and logs no secret of an address", async () => {
    await withReplica(async (own) => {
      const recipe = (await readFile(join(folder, "nginx.conf"), "utf8"))
        .replace("server replica-1:8000 ", `server unix:${own}/replica `)
        .replace("server replica-2:8000 ", `server unix:${own}/stopped `)
        .replace("listen 8000", `listen unix:${own}/front`)
        .replace("/var/log/nginx", own);
      const paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
        (name) => `${name}_temp_path ${own}/${name};`,
      );
      const file = join(own, "nginx.conf");
      await writeFile(file, `pid ${own}/pid; daemon off; events {} http { ${paths.join(" ")} ${recipe} }`);
      const errors = join(own, "errors");
      const { status, stderr } = spawnSync("nginx", ["-t", "-e", errors, "-c", file], { env, encoding: "utf8" });
      expect([status, stderr]).toEqual([0, expect.stringContaining("test is successful")]);
      const nginx = spawn("nginx", ["-e", errors, "-c", file], { env, stdio: "ignore" });
      try {
        const log = async () => await readFile(join(own, "access.log"), "utf8");
        const lines = await logAbout(join(own, "front"), log);
        expect(lines.map((line) => / 200 .* GET (\S+) HTTP/.exec(line)?.[1])).toEqual(firstParts);
        expect((await log()) + (await readFile(errors, "utf8"))).not.toContain("secret");
        // A replica that refuses connections was among them. nginx would write its error log about it, with the whole address.
        expect(await log()).toContain(`unix:${own}/stopped`);
      } finally {
        nginx.kill("SIGTERM");
        await once(nginx, "close");
      }
    });
  });
});

it.each([
  ["those of compose.scale.yml", {}, "", "docker-compose.yml:compose.scale.yml"],
  ["those that the shell names", { COMPOSE_FILE: "a.yml:b.yml" }, "", "a.yml:b.yml"],
  ["those that .env names, which Compose reads", {}, "PORT=8000\nCOMPOSE_FILE=a.yml:c.yml\n", ""],
])("a rolling restart uses the files of the set-up: %s", async (_which, shell, dotEnv, files) => {
  const own = await mkdtemp(join(tmpdir(), "restart-"));
  try {
    const script = join(own, "deploy/scale/rolling-restart.sh");
    await mkdir(join(own, "deploy/scale"), { recursive: true });
    await copyFile(join(folder, "rolling-restart.sh"), script);
    await writeFile(join(own, ".env"), dotEnv);
    const docker = `#!/bin/sh
      echo "\${COMPOSE_FILE:-}" >>"${own}/files"
      echo "$*" >>"${own}/calls"
      case "$*" in *" ps "*) echo one; echo two;; esac\n`;
    await writeFile(join(own, "docker"), docker, { mode: 0o755 });
    await promisify(execFile)("bash", [script], { env: { PATH: `${own}:${process.env.PATH}`, ...shell } });
    const linesOf = async (name: string) => (await readFile(join(own, name), "utf8")).split("\n").slice(0, -1);
    expect(new Set(await linesOf("files"))).toEqual(new Set([files]));
    const replaced = (id: string) => [
      "compose up --detach --wait --no-deps --no-recreate --scale service=3 service",
      `stop --time 60 ${id}`,
      `rm ${id}`,
    ];
    expect(await linesOf("calls")).toEqual(["compose ps --quiet service", ...replaced("one"), ...replaced("two")]);
  } finally {
    await rm(own, { recursive: true });
  }
});
