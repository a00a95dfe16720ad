import { describe, expect, it } from "@jest/globals";
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { findChromium } from "./browser.ts";
import { skippedTitle } from "./skipped-reporter.ts";
import { systemPostgresPrograms } from "./system-postgres.ts";

/** The package of tools that client developers run on the schema. */
export const clientTools = join(import.meta.dirname, "../../../test/client-tools");

/** OkHttp, and what Android has for JSON, as Debian installs them for Java. */
const okHttp = ["okhttp.jar", "okio.jar", "com.android.json.jar"].map((name) => `/usr/share/java/${name}`);

/** Their class path. */
export const okHttpJars = okHttp.join(":");

interface Program {
  readonly isThere: () => boolean;
  /** Debian packages, or a command of npm. */
  readonly install: string;
  /** Whether the tests are skipped without it even if `CI` is set: it is installed by hand now and then. */
  readonly isTooLargeForCi?: true;
}

/**
 * Programs that some tests run and that `npm ci` does not install: whether they are installed, and their Debian package
 * or the command that installs them.
 */
const programs = {
  "Ceph RGW": {
    isThere: () => runs("radosgw", "--version") && runs("ceph-osd", "--version") && runs("ceph-mon", "--version"),
    install: "radosgw ceph-mon ceph-osd ceph-common",
  },
  Chromium: { isThere: () => findChromium() !== undefined, install: "chromium" },
  "the client tools": {
    isThere: () => existsSync(join(clientTools, "node_modules/.package-lock.json")),
    install: "npm ci --prefix test/client-tools",
  },
  curl: { isThere: () => runs("curl", "--version"), install: "curl" },
  HAProxy: { isThere: () => runs("haproxy", "-v") || runs("/usr/sbin/haproxy", "-v"), install: "haproxy" },
  Java: { isThere: () => runs("javac", "-version"), install: "default-jdk-headless" },
  Mono: {
    isThere: () => runs("mcs", "--version") && runs("mono", "--version"),
    install: "mono-mcs mono-runtime libmono-system-net-http4.0-cil libmono-system-runtime-serialization4.0-cil",
  },
  mp3val: { isThere: () => runs("mp3val", "-v"), install: "mp3val" },
  mpg123: { isThere: () => runs("mpg123", "--version"), install: "mpg123" },
  nginx: { isThere: () => runs("nginx", "-v") || runs("/usr/sbin/nginx", "-v"), install: "nginx-light" },
  "OkHttp for Java": {
    isThere: () => okHttp.every((jar) => existsSync(jar)),
    install: "libokhttp-java libandroid-json-java",
  },
  PgBouncer: {
    isThere: () => runs("pgbouncer", "--version") || runs("/usr/sbin/pgbouncer", "--version"),
    install: "pgbouncer",
  },
  perl: { isThere: () => runs("/usr/bin/perl", "-v"), install: "perl-base" },
  promtool: { isThere: () => runs("promtool", "--version"), install: "prometheus" },
  Python: { isThere: () => runs("python3", "--version"), install: "python3" },
  "PostgreSQL's programs": { isThere: () => systemPostgresPrograms() !== undefined, install: "postgresql" },
  "requests for Python": { isThere: () => pythonWithRequests() !== undefined, install: "python3-requests" },
  Swift: { isThere: () => runs("swiftc", "--version"), install: "swiftlang", isTooLargeForCi: true },
  "util-linux": { isThere: () => runs("/usr/bin/prlimit", "--version"), install: "util-linux" },
  wget: { isThere: () => runs("wget", "--version"), install: "wget" },
} satisfies Record<string, Program>;

/** The name of one of them. */
export type ProgramName = keyof typeof programs;

/**
 * Declares tests that run a program of the system. If it is missing, they are skipped under a title that says what to
 * install; if `CI` is set, that is a failure.
 */
export function needs(program: ProgramName, declareTests: () => void): void {
  const { isThere, install, isTooLargeForCi }: Program = programs[program];
  const command = install.startsWith("npm ") ? install : `apt-get install -y ${install}, or the like`;
  const lack = `${program} (${command})`;
  declareOrSkip(isThere(), lack, declareTests);
  if (!isThere() && process.env["CI"] && !isTooLargeForCi) {
    it(`finds ${program}`, () => {
      expect(`nothing is skipped where CI is set: install ${lack}`).toBe("");
    });
  }
}

/**
 * Declares tests of something that some systems cannot do, whatever is installed. On those, they are skipped, even if
 * `CI` is set.
 */
export function needsSystem(property: string, isThere: boolean, declareTests: () => void): void {
  declareOrSkip(isThere, property, declareTests);
}

function declareOrSkip(isThere: boolean, lack: string, declareTests: () => void): void {
  // oxlint-disable-next-line jest/no-disabled-tests, jest/valid-title, jest/valid-describe-callback -- the run's end lists them
  if (!isThere) describe.skip(`${skippedTitle}${lack}`, declareTests);
  else declareTests();
}

/** The Python that has the package requests, if one has. */
export function pythonWithRequests(): string | undefined {
  return ["python3", "/usr/bin/python3"].find((name) => runs(name, "-c", "import requests"));
}

/** Whether a program can be run with these arguments. */
export function runs(program: string, ...args: readonly string[]): boolean {
  try {
    execFileSync(program, args, { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
