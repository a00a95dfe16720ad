import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { playExpiry, readPlayLink, signPlayLink, type PlayTerms } from "../src/link/play-link.ts";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { openBrowser } from "./support/browser.ts";
import { needs } from "./support/needs.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

const chrome = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

describe("a link that plays for some hours", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;
  let id: string;
  const wav = sineWav({ seconds: 0.5 });

  beforeAll(async () => {
    service = await startService();
    client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
    const { data } = await client.uploadRecord(ann, wav, { args: ", visibility: PRIVATE" });
    ({ id } = data.uploadRecord.record);
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  const playUrlOf = async (user = ann, args = "", recordId = id): Promise<string> => {
    const { data, errors } = await client.run(`{ record(id: "${recordId}") { playUrl${args} } }`, {}, user);
    expect(errors).toBeUndefined();
    return data.record.playUrl;
  };
  const tokenWith = async (scopes: string): Promise<Credentials & { tokenId: string }> => {
    const query = `mutation { createToken(name: "a", scopes: [${scopes}]) { token accessToken { id } } }`;
    const { token, accessToken } = (await client.run(query, {}, ann)).data.createToken;
    return { id: ann.id, token, tokenId: accessToken.id };
  };
  const keyOf = async (user: Credentials): Promise<string> => {
    const found = await service.server.database.pool.query("select play_key from app_user where id = $1", [user.id]);
    return found.rows[0].play_key;
  };
  const signedIn = (url: string): string => url.slice(url.lastIndexOf("/") + 1);
  const termsIn = (url: string): PlayTerms => readPlayLink(signedIn(url))!.terms;
  const statusOf = async (url: string, headers: Record<string, string> = {}): Promise<number> => {
    const response = await fetch(url, { headers });
    await response.arrayBuffer();
    return response.status;
  };

  it("plays a private recording without a token, with ranges, and lets no cache use it unasked", async () => {
    const url = await playUrlOf();
    expect(url.slice(service.url.length)).toMatch(/^\/play\/[\w-]{75}$/);
    const response = await fetch(url);
    expect(response.status).toBe(200);
    expect(
      Buffer.from(await response.arrayBuffer())
        .subarray(0, 3)
        .toString(),
    ).toBe("ID3");
    const { headers } = response;
    expect(headers.get("content-type")).toBe("audio/mpeg");
    expect(headers.get("content-disposition")).toMatch(/^inline/);
    expect(headers.get("cache-control")).toBe("private, no-cache");
    expect(headers.get("access-control-allow-origin")).toBe("*");
    expect(await statusOf(url, { range: "bytes=0-99" })).toBe(206);
    expect(await statusOf(url, { "if-none-match": headers.get("etag")! })).toBe(304);
    const download = await fetch(`${url}?inline=0`, { method: "HEAD" });
    expect(download.headers.get("content-disposition")).toMatch(/^attachment/);
  });

  needs("Chromium", () => {
    it("plays in the <audio> of a page, to its end", async () => {
      await using browser = await openBrowser();
      const page = await browser.newPage();
      const played = await page.evaluate(
        `new Promise((resolve, reject) => {
          const audio = new Audio(${JSON.stringify(await playUrlOf())});
          audio.muted = true;
          audio.onended = () => resolve(audio.duration);
          audio.onerror = () => reject(new Error(audio.error.message));
          audio.play();
        })`,
      );
      expect(played).toBeCloseTo(0.5, 2);
    });
  });

  it("is refused beforehand for a time out of range, also in a mutation", async () => {
    for (const seconds of [59, 86_401, 0, -1]) {
      const { errors } = await client.run(
        `mutation { updateRecord(id: "${id}", title: "Other") { record { playUrl(validSeconds: ${seconds}) } } }`,
        {},
        ann,
      );
      expect(errors?.[0]?.extensions).toMatchObject({ code: "BAD_USER_INPUT", argument: "validSeconds", min: 60 });
    }
    expect((await client.run(`{ record(id: "${id}") { title } }`, {}, ann)).data.record.title).toBe("take");
    expect(await statusOf(await playUrlOf(ann, "(validSeconds: 60)"))).toBe(200);
    expect(await statusOf(await playUrlOf(ann, "(validSeconds: 86400)"))).toBe(200);
  });

  it("is the same for a quarter of its time, and valid for at least the time that was asked for", () => {
    const start = 1_800_000_000;
    const at = (second: number): number => playExpiry(400, null, (start + second) * 1000);
    expect([at(1), at(50), at(100)]).toEqual([start + 500, start + 500, start + 500]);
    expect(at(101)).toBe(start + 600);
    expect(at(0)).toBe(start + 400);
    expect(playExpiry(400, new Date((start + 10) * 1000), start * 1000)).toBe(start + 10);
    expect(playExpiry(61, null, 1000)).toBeGreaterThanOrEqual(62);
  });

  it("answers 410 when it has expired, as a page in a browser", async () => {
    const terms = { ...termsIn(await playUrlOf()), expiresAt: Math.floor(Date.now() / 1000) - 1 };
    const url = `${service.url}/play/${signPlayLink(await keyOf(ann), terms)}`;
    const response = await fetch(url);
    expect([response.status, (await response.json()).error.code]).toEqual([410, "GONE"]);
    const page = await fetch(url, { headers: { accept: chrome } });
    expect(page.status).toBe(410);
    expect(await page.text()).toContain("<h1>This link has expired.");
  });

  it("does not exist if anything in it was changed or it was signed with another key", async () => {
    const signed = signedIn(await playUrlOf());
    const bob = await client.createUser("Bob");
    const terms = termsIn(signed);
    const forged = [
      signPlayLink(await keyOf(bob), terms),
      signPlayLink(await keyOf(bob), { ...terms, userId: Number(bob.id) }),
      signPlayLink(await keyOf(ann), { ...terms, userId: 2 ** 31 }),
      signPlayLink(await keyOf(ann), { ...terms, userId: 0 }),
      Buffer.from(signed, "base64url").fill(255, 0, 40).toString("base64url"),
      ...Array.from(signed, (sign, at) => signed.slice(0, at) + (sign === "A" ? "B" : "A") + signed.slice(at + 1)),
      signed.slice(1),
      `${signed}A`,
      "x",
      "%00",
    ];
    for (const other of forged) expect([other, await statusOf(`${service.url}/play/${other}`)]).toEqual([other, 404]);
    expect(await statusOf(`${service.url}/play/${signed}`)).toBe(200);
  });

  it("ends with the token that asked for it, and not later than that token", async () => {
    const reader = await tokenWith("READ");
    const url = await playUrlOf(reader);
    expect(await statusOf(url)).toBe(200);
    await client.run(`mutation { revokeToken(id: "${reader.tokenId}") { revokedId } }`, {}, ann);
    expect(await statusOf(url)).toBe(404);
    expect(await statusOf(await playUrlOf())).toBe(200);

    const expiresAt = new Date(Date.now() + 3_600_000).toISOString();
    const query = `mutation { createToken(name: "b", scopes: [READ], expiresAt: "${expiresAt}") { token } }`;
    const { token } = (await client.run(query, {}, ann)).data.createToken;
    const terms = termsIn(await playUrlOf({ id: ann.id, token }));
    expect(terms.expiresAt).toBe(Math.floor(Date.parse(expiresAt) / 1000));
  });

  it("goes to a token with UPLOAD for its own uploads, and to no token that may not read", async () => {
    const kiosk = await tokenWith("UPLOAD");
    const uploaded = await client.uploadRecord(kiosk, wav, { args: ", visibility: PRIVATE", fields: "id playUrl" });
    expect(await statusOf(uploaded.data.uploadRecord.record.playUrl)).toBe(200);
    const writer = await tokenWith("WRITE");
    const query = `mutation { updateRecord(id: "${id}", title: "take") { record { title playUrl } } }`;
    const { data, errors } = await client.run(query, {}, writer);
    expect(data.updateRecord.record).toEqual({ title: "take", playUrl: null });
    expect(errors?.[0]?.extensions.code).toBe("FORBIDDEN");
  });

  it("ends with the recording and with its user, disabled or deleted", async () => {
    const eve = await client.createUser("Eve");
    const upload = async (): Promise<{ id: string; playUrl: string }> =>
      (await client.uploadRecord(eve, wav, { fields: "id playUrl" })).data.uploadRecord.record;
    const [one, two] = [await upload(), await upload()];
    expect([await statusOf(one.playUrl), await statusOf(two.playUrl)]).toEqual([200, 200]);
    await client.run(`mutation { deleteRecord(id: "${one.id}") { deletedId } }`, {}, eve);
    expect([await statusOf(one.playUrl), await statusOf(two.playUrl)]).toEqual([404, 200]);
    const { pool } = service.server.database;
    await pool.query("update app_user set disabled_at = now() where id = $1", [eve.id]);
    expect(await statusOf(two.playUrl)).toBe(404);
    await pool.query("update app_user set disabled_at = null where id = $1", [eve.id]);
    expect(await statusOf(two.playUrl)).toBe(200);
    await pool.query("delete from app_user where id = $1", [eve.id]);
    expect(await statusOf(two.playUrl)).toBe(404);
  });

  it("gives a user from before there were play links a key, once", async () => {
    const old = await client.createUser("Old");
    const { record } = (await client.uploadRecord(old, wav)).data.uploadRecord;
    await service.server.database.pool.query("update app_user set play_key = null where id = $1", [old.id]);
    const urls = await Promise.all(Array.from({ length: 4 }, async () => await playUrlOf(old, "", record.id)));
    for (const url of urls) expect(await statusOf(url)).toBe(200);
  });
});

describe("what a client can know before it has a user", () => {
  it("is the limits and defaults that the operator has set", async () => {
    await using service = await startService({
      MAX_UPLOAD_BYTES: "5000000",
      MAX_DURATION_SECONDS: "90",
      QUALITY: "HIGH",
      VISIBILITY: "PRIVATE",
      REGISTRATION: "invite",
      QUOTA_BYTES: "0",
      QUOTA_RECORDS: "7",
    });
    const fields =
      "version maxUploadBytes maxDurationSeconds quality visibility registration quota { bytes seconds records }";
    const { data } = await new ApiClient(service.url).run(`{ service { ${fields} } }`);
    expect(data.service).toEqual({
      version: expect.stringMatching(/^\d+\.\d+\.\d+/),
      maxUploadBytes: 5_000_000,
      maxDurationSeconds: 90,
      quality: "HIGH",
      visibility: "PRIVATE",
      registration: "INVITE",
      quota: { bytes: null, seconds: 180_000, records: 7 },
    });
  });
});
