import { spawn } from "node:child_process";
import { once } from "node:events";
import { createReadStream } from "node:fs";
import { access, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createServer as createSocketServer, type AddressInfo } from "node:net";
import { basename, dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";

/** A server that sends one file for every request. */
export interface FileServer extends AsyncDisposable {
  readonly url: string;
}

/** The simplest file server in Node, as a separate process: node:http and createReadStream. */
export async function startNodeFileServer(path: string): Promise<FileServer> {
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), path], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [port] = await once(child.stdout, "data");
  return {
    url: `http://127.0.0.1:${String(port).trim()}/`,
    async [Symbol.asyncDispose]() {
      child.kill();
      await once(child, "close");
    },
  };
}

/** nginx with sendfile and one worker; undefined where it is not installed. */
export async function startNginx(path: string, folder: string): Promise<FileServer | undefined> {
  const program = await firstThatExists(["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"]);
  if (program === undefined) return undefined;
  const port = await freePort();
  const configuration = `
    ${process.getuid?.() === 0 ? "user root;" : ""}
    daemon off; worker_processes 1; pid ${folder}/nginx.pid; error_log stderr error;
    events {}
    http {
      access_log off; sendfile on; tcp_nopush on; default_type audio/mpeg;
      client_body_temp_path ${folder}/nginx-body; proxy_temp_path ${folder}/nginx-proxy;
      fastcgi_temp_path ${folder}/nginx-fastcgi; uwsgi_temp_path ${folder}/nginx-uwsgi; scgi_temp_path ${folder}/nginx-scgi;
      server { listen 127.0.0.1:${port}; root ${dirname(path)}; }
    }`;
  const file = join(folder, "nginx.conf");
  await writeFile(file, configuration);
  const child = spawn(program, ["-c", file], { stdio: "inherit" });
  const url = `http://127.0.0.1:${port}/${basename(path)}`;
  for (let attempt = 0; !(await answers(url)); attempt++) {
    if (attempt === 100) child.kill();
    if (child.exitCode !== null || child.killed) throw new Error("nginx did not start");
    await delay(50);
  }
  return {
    url,
    async [Symbol.asyncDispose]() {
      child.kill();
      await once(child, "close");
    },
  };
}

async function firstThatExists(paths: readonly string[]): Promise<string | undefined> {
  for (const path of paths) {
    const exists = await access(path).then(
      () => true,
      () => false,
    );
    if (exists) return path;
  }
  return undefined;
}

async function freePort(): Promise<number> {
  const server = createSocketServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

async function answers(url: string): Promise<boolean> {
  return await fetch(url, { method: "HEAD" }).then(
    ({ ok }) => ok,
    () => false,
  );
}

/** Runs in the child process of {@link startNodeFileServer}. */
async function serveFile(path: string): Promise<void> {
  const { size } = await stat(path);
  const server = createServer((_request, response) => {
    response.writeHead(200, { "content-type": "audio/mpeg", "content-length": size });
    pipeline(createReadStream(path), response).catch(() => response.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  console.log((server.address() as AddressInfo).port);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await serveFile(process.argv[2]!);
