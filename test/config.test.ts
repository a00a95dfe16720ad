import { describe, expect, it } from "@jest/globals";
import { readFile } from "node:fs/promises";
import { readConfig } from "../src/settings/config.ts";

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

  it.each([
    ["postgresql+psycopg2://ann@db/music", "must be a URL that starts with postgres:// or postgresql://"],
    ["postgresql://ann:pass#word@db/music", "must not contain #: write %23 for a # in the password"],
    ["postgresql://ann:100%@db/music", "contains a % that escapes nothing: write %25 for a % in the password"],
    ["postgresql://ann@db1:5432,db2:5432/music", "must name one host: for several servers, name an address"],
    ["postgresql://ann:pa/ss@db/music", "must have the form postgresql://user:password@host:5432/database"],
    ["postgresql://ann@db:port/music", "must have the form postgresql://user:password@host:5432/database"],
  ])("says what is wrong with the DATABASE_URL %s", (given, fault) => {
    expect(() => readConfig({ DATABASE_URL: given })).toThrow(`DATABASE_URL ${fault}`);
  });

  it.each([
    "postgres://ann:p%23w@db/music?sslmode=require",
    "postgresql://db",
    "postgresql://ann@/music?host=/var/run/postgresql",
    "postgresql://ann@%2Fvar%2Frun%2Fpostgresql/music",
    "postgresql://ann:a,b@[::1]:5433/music",
  ])("takes the DATABASE_URL %s", (given) => {
    expect(readConfig({ DATABASE_URL: given }).databaseUrl).toBe(given);
  });

  it("puts a password of its own into DATABASE_URL", () => {
    const read = (DATABASE_URL: string) => readConfig({ DATABASE_URL, DATABASE_PASSWORD: " p#/w%\n" }).databaseUrl;
    expect(read("postgresql://ann@db/music")).toBe("postgresql://ann:p%23%2Fw%25@db/music");
    expect(() => read("postgresql://ann:old@db/music")).toThrow(
      "DATABASE_PASSWORD goes with a DATABASE_URL that names",
    );
    expect(() => read("postgresql://db/music")).toThrow("DATABASE_PASSWORD goes with a DATABASE_URL that names");
  });

  it("takes no slash at the end of PUBLIC_URL", () => {
    expect(readConfig({ PUBLIC_URL: "https://music.example.com/" }).publicUrl).toBe("https://music.example.com");
  });

  it.each(["README.md", ".env.example"])("has all its variables in %s", async (file) => {
    const source = await readFile(new URL("../../src/settings/config.ts", import.meta.url), "utf8");
    const names = new Set([...source.matchAll(/"([A-Z][A-Z_]{3,})"/g)].map(([, name]) => name));
    for (const notAName of ["STANDARD"]) names.delete(notAName);
    const text = await readFile(new URL(`../../${file}`, import.meta.url), "utf8");
    expect([...names].filter((name) => !text.includes(name!))).toEqual([]);
    expect(names.size).toBeGreaterThan(20);
  });
});
