import { describe, expect, it } from "@jest/globals";
import { readFile } from "node:fs/promises";
import { readConfig } from "../src/config.ts";

describe("readConfig", () => {
  it("has a default for every setting", () => {
    const config = readConfig({});
    expect(config).toMatchObject({ port: 8000, maxUploadBytes: 2 ** 31, sandbox: true, introspection: true });
    expect(config.databaseUrl).toBeUndefined();
  });

  it("closes Sandbox and introspection and limits rates in production, unless told otherwise", () => {
    expect(readConfig({ NODE_ENV: "production" })).toMatchObject({
      sandbox: false,
      introspection: false,
      maxNewUsersPerHour: 60,
    });
    expect(readConfig({ NODE_ENV: "production", SANDBOX: "true", INTROSPECTION: "true" })).toMatchObject({
      sandbox: true,
      introspection: true,
    });
  });

  it("names every fault at once", () => {
    expect(() => readConfig({ PORT: "x", QUALITY: "BEST", DATABASE_URL: "mysql://here", ENCODERS: "0" })).toThrow(
      "DATABASE_URL must be a URL that starts with postgres:// or postgresql://; PORT must be an integer from 0 to 65535; " +
        "ENCODERS must be an integer from 1 to 256; QUALITY must be one of LOW, STANDARD, HIGH",
    );
  });

  it("takes no slash at the end of PUBLIC_URL", () => {
    expect(readConfig({ PUBLIC_URL: "https://music.example.com/" }).publicUrl).toBe("https://music.example.com");
  });

  it.each(["README.md", ".env.example"])("has all its variables in %s", async (file) => {
    const source = await readFile(new URL("../../src/config.ts", import.meta.url), "utf8");
    const names = new Set([...source.matchAll(/"([A-Z][A-Z_]{3,})"/g)].map(([, name]) => name));
    for (const notAName of ["STANDARD"]) names.delete(notAName);
    const text = await readFile(new URL(`../../${file}`, import.meta.url), "utf8");
    expect([...names].filter((name) => !text.includes(name!))).toEqual([]);
    expect(names.size).toBeGreaterThan(20);
  });
});
