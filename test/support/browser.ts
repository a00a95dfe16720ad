import { access } from "node:fs/promises";
import { chromium, type Browser } from "playwright-core";

const programs = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** Starts a headless Chromium, the one of `CHROMIUM_PATH` or the system's; says what to install if there is none. */
export async function openBrowser(): Promise<Browser> {
  for (const executablePath of [process.env.CHROMIUM_PATH, ...programs]) {
    if (executablePath === undefined) continue;
    const found = await access(executablePath).then(
      () => true,
      () => false,
    );
    if (!found) continue;
    return await chromium.launch({
      executablePath,
      // In a locale without UTF-8 Chromium saves under names of ASCII only.
      env: { ...process.env, LC_ALL: "C.UTF-8" },
      args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"],
    });
  }
  throw new Error("The browser tests need Chromium: apt-get install -y chromium, or set CHROMIUM_PATH to yours");
}
