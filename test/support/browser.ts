import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { chromium, type Browser } from "playwright-core";

const names = ["chromium", "chromium-browser", "google-chrome"];

/** The Chromium of `CHROMIUM_PATH`, or else the first on the `PATH`. */
export function findChromium(): string | undefined {
  const folders = (process.env.PATH ?? "").split(delimiter);
  const onPath = names.flatMap((name) => folders.map((folder) => join(folder, name)));
  return [process.env.CHROMIUM_PATH, ...onPath].find((path) => path !== undefined && existsSync(path));
}

/** What every Chromium of the tests is started with. */
export const chromiumArguments = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--disable-background-networking",
  "--disable-sync",
] as const;

/** Starts a headless Chromium; its tests are declared by `needs("Chromium", ...)`. */
export async function openBrowser(): Promise<Browser> {
  const executablePath = findChromium();
  if (executablePath === undefined) throw new Error("There is no Chromium");
  return await chromium.launch({
    executablePath,
    timeout: 120_000, // a limit only against hanging
    // In a locale without UTF-8 Chromium saves under names of ASCII only.
    env: { ...process.env, LC_ALL: "C.UTF-8" },
    args: [...chromiumArguments],
  });
}
