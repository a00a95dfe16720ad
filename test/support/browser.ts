import { existsSync } from "node:fs";
import { chromium, type Browser } from "playwright-core";

const paths = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** The Chromium of `CHROMIUM_PATH`, or else the system's, if it has one. */
export function findChromium(): string | undefined {
  return [process.env.CHROMIUM_PATH, ...paths].find((path) => path !== undefined && existsSync(path));
}

/** Starts a headless Chromium; its tests are declared by `needs("Chromium", ...)`. */
export async function openBrowser(): Promise<Browser> {
  const executablePath = findChromium();
  if (executablePath === undefined) throw new Error("There is no Chromium");
  return await chromium.launch({
    executablePath,
    // In a locale without UTF-8 Chromium saves under names of ASCII only.
    env: { ...process.env, LC_ALL: "C.UTF-8" },
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"],
  });
}
