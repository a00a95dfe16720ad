import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

/** Writes each asset also in the forms that the service sends: `.br` and `.gz`. */
function precompress(): Plugin {
  let folder = "";
  return {
    name: "precompress",
    configResolved: ({ root, build }) => void (folder = join(root, build.outDir, build.assetsDir)),
    async writeBundle() {
      const names = (await readdir(folder)).filter((name) => !/\.(?:br|gz)$/.test(name));
      const params = { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY };
      for (const name of names) {
        const bytes = await readFile(join(folder, name));
        await writeFile(join(folder, `${name}.br`), await promisify(brotliCompress)(bytes, { params }));
        await writeFile(
          join(folder, `${name}.gz`),
          await promisify(gzip)(bytes, { level: constants.Z_BEST_COMPRESSION }),
        );
      }
    },
  };
}

export default defineConfig({
  root: "web",
  // Relative addresses: the page also works behind a proxy that adds a path.
  base: "./",
  publicDir: false,
  worker: { format: "es" },
  build: {
    outDir: "../dist/page",
    emptyOutDir: true,
    // The Content Security Policy allows no script from a data: address.
    assetsInlineLimit: 0,
    modulePreload: false,
    target: "baseline-widely-available",
    // Those that know light-dark().
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
  },
  plugins: [precompress()],
});
