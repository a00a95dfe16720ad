import { describe, expect, it } from "@jest/globals";
import { readConfig } from "../src/settings/config.ts";
import { isAllowedOrigin, isLocalOrigin } from "../src/addresses/cors-origins.ts";

describe("CORS_ORIGINS", () => {
  const read = (given: string) => readConfig({ CORS_ORIGINS: given }).corsOrigins;

  it.each([
    ["*", "https://any.example"],
    ["*", "null"],
    ["null", "null"],
    ["file://", "file://"],
    ["https://app.example.com", "https://app.example.com"],
    ["https://APP.example.com/", "https://app.example.com"],
    ["https://app.example.com:443", "https://app.example.com"],
    ["http://app.example.com:80/", "http://app.example.com"],
    ["http://192.168.1.5:5173", "http://192.168.1.5:5173"],
    ["http://[2001:DB8:0::1]:3000", "http://[2001:db8::1]:3000"],
    ["https://bücher.example", "https://xn--bcher-kva.example"],
    ["https://*.example.com", "https://app.example.com"],
    ["https://*.example.com", "https://a.b.c.example.com"],
    ["https://*.EXAMPLE.com/", "https://pr-12--site.example.com"],
    ["https://*.example.com:8443", "https://app.example.com:8443"],
    ["https://*.bücher.example", "https://neu.xn--bcher-kva.example"],
    ["capacitor://localhost", "capacitor://localhost"],
    ["ionic://localhost/", "ionic://localhost"],
    ["tauri://localhost", "tauri://localhost"],
    ["http://tauri.localhost", "http://tauri.localhost"],
    ["app://obsidian.md", "app://obsidian.md"],
    ["chrome-extension://abcdefghijklmnopabcdefghijklmnop", "chrome-extension://abcdefghijklmnopabcdefghijklmnop"],
    ["moz-extension://0B7A9C1E-7D0B-4E0E-9F5E-0C8E0F3F4E55", "moz-extension://0b7a9c1e-7d0b-4e0e-9f5e-0c8e0f3f4e55"],
    [" https://a.example , https://b.example, ", "https://b.example"],
    ["https://a.example https://b.example", "https://b.example"],
  ])("%s allows %s", (given, origin) => {
    expect(isAllowedOrigin(read(given), origin)).toBe(true);
  });

  it.each([
    ["", "https://app.example.com"],
    ["https://app.example.com", "http://app.example.com"],
    ["https://app.example.com", "https://app.example.com:8443"],
    ["https://app.example.com", "https://app.example.com.evil.example"],
    ["https://app.example.com", "null"],
    ["https://*.example.com", "https://example.com"],
    ["https://*.example.com", "https://evilexample.com"],
    ["https://*.example.com", "https://.example.com"],
    ["https://*.example.com", "http://app.example.com"],
    ["https://*.example.com", "https://app.example.com:8443"],
    ["https://*.example.com", "https://app.example.com.evil.example"],
    ["https://*.example.com", "https://evil.example/.example.com"],
    ["https://*.example.com", "https://evil.example:1.example.com"],
    ["https://*.example.com:8443", "https://app.example.com"],
    ["capacitor://localhost", "http://localhost"],
    ["null", "file://"],
  ])("%s does not allow %s", (given, origin) => {
    expect(isAllowedOrigin(read(given), origin)).toBe(false);
  });

  it.each([
    ["app.example.com", "app.example.com has no scheme: write https://app.example.com"],
    ["localhost:5173", "localhost:5173 has no scheme: write http://localhost:5173"],
    ["*.example.com", "*.example.com has no scheme: write https://*.example.com"],
    ["//app.example.com", "//app.example.com has no scheme: write https://app.example.com"],
    ["https://app.example.com/login", "https://app.example.com/login has a path: write https://app.example.com"],
    ["https://app.example.com?x=1", "write https://app.example.com"],
    ["https://ann:secret@app.example.com", "has a user name: write https://app.example.com"],
    ["https://app.*.example.com", "has its * in the wrong place"],
    ["https://*app.example.com", "has its * in the wrong place"],
    ["https://*", "has its * in the wrong place"],
    ["http://localhost:*", "has its * in the wrong place"],
    ["https://*.", "is not an origin"],
    ["https://", "is not an origin"],
    ["https://app.example.com:99999", "is not an origin"],
    ["https://app example.com", "example.com has no scheme"],
    ["capacitor://", "is not an origin"],
    ["'https://app.example.com'", "has quotation marks"],
    ["https://a.example, b.example", "b.example has no scheme: write https://b.example"],
  ])("%s stops the start with what to write instead", (given, sentence) => {
    expect(() => read(given)).toThrow(/^CORS_ORIGINS must list origins such as /);
    expect(() => read(given)).toThrow(sentence);
  });
});

describe("pages of this machine", () => {
  it.each([
    "http://localhost",
    "http://localhost:5173",
    "https://localhost:3000",
    "http://app.localhost:8080",
    "http://a.b.localhost",
    "http://127.0.0.1:5500",
    "https://127.0.0.1",
    "http://127.12.0.3:80",
    "http://0.0.0.0:8000",
    "http://[::1]:5173",
    "null",
    "file://",
  ])("are those of %s", (origin) => {
    expect(isLocalOrigin(origin)).toBe(true);
  });

  it.each([
    "http://localhost.example.com",
    "http://evil-localhost",
    "http://localhostess:80",
    "http://127.0.0.1.nip.io",
    "http://127.0.0.1:5500.example.com",
    "http://128.0.0.1",
    "http://192.168.1.5:5173",
    "http://[::2]",
    "https://example.com/.localhost",
    "https://evil.example:x@a.localhost",
    "https://app.example.com",
    "",
  ])("are not those of %s", (origin) => {
    expect(isLocalOrigin(origin)).toBe(false);
  });
});
