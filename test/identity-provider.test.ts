import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { SignJWT, UnsecuredJWT } from "jose";
import { readConfig } from "../src/settings/config.ts";
import { ApiClient, type Answer } from "./support/api-client.ts";
import { audience, inSeconds, Issuer } from "./support/issuer.ts";
import { startService, type TestService } from "./support/service.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

describe("a token of the identity provider", () => {
  let issuer: Issuer;
  let service: TestService;
  let client: ApiClient;

  beforeAll(async () => {
    issuer = new Issuer();
    await issuer.start();
    service = await startService({ OIDC_ISSUER: issuer.url, OIDC_AUDIENCE: audience });
    client = new ApiClient(service.url);
  });

  afterAll(async () => {
    await service?.[Symbol.asyncDispose]();
    await issuer?.stop();
  });

  const as = (token: string) => ({ id: "", token });
  const me = async (token: string, api = client): Promise<Answer> => await api.run("{ me { id name } }", {}, as(token));
  const codeOf = ({ status, errors }: Answer) => [status, errors?.[0]?.extensions.code];
  const userCount = async () => (await service.server.database.pool.query("select from app_user")).rowCount!;

  it("makes its subject a user at first use, who stays the same", async () => {
    const token = await issuer.token({ sub: "first", name: "Ann\u0000 of Elsewhere" });
    const before = await userCount();
    const { status, data } = await me(token);
    expect([status, data.me.name]).toEqual([200, "Ann of Elsewhere"]);
    expect((await me(await issuer.token({ sub: "first", name: "Renamed" }))).data.me).toEqual(data.me);
    expect((await me(await issuer.token({ sub: "second" }))).data.me).toEqual({
      id: expect.not.stringMatching(`^${data.me.id}$`),
      name: "second",
    });
    expect(await userCount()).toBe(before + 2);
  });

  it("makes one user, however many requests come first", async () => {
    const before = await userCount();
    const token = await issuer.token({ sub: "hurried" });
    const answers = await Promise.all(Array.from({ length: 10 }, async () => await me(token)));
    expect(new Set(answers.map(({ data }) => data.me.id)).size).toBe(1);
    expect(await userCount()).toBe(before + 1);
  });

  it("uploads, opens its user's private link, and manages tokens that end with it", async () => {
    const user = as(await issuer.token({ sub: "uploader" }));
    const options = { args: ", visibility: PRIVATE", fields: "url" };
    const { status, data } = await client.uploadRecord(user, sineWav({ seconds: 0.2 }), options);
    expect(status).toBe(200);
    const open = async (token: string) => {
      const { status, body } = await fetch(data.uploadRecord.record.url, {
        headers: { authorization: `Bearer ${token}` },
      });
      await body?.cancel();
      return status;
    };
    expect(await open(user.token)).toBe(200);
    expect(await open(await issuer.token({ sub: "first" }))).toBe(404);
    const before = await userCount();
    expect(await open(await issuer.token({ sub: "nobody yet" }))).toBe(404);
    expect(await userCount()).toBe(before);

    const create = async (args: string) =>
      await client.run(`mutation { createToken(name: "x"${args}) { token accessToken { expiresAt } } }`, {}, user);
    const made = (await create("")).data.createToken;
    expect(Date.parse(made.accessToken.expiresAt)).toBeLessThanOrEqual(Date.now() + 300_000);
    expect((await me(made.token)).status).toBe(200);
    expect(codeOf(await create(', expiresAt: "2090-01-01T00:00:00Z"'))).toEqual([400, "BAD_USER_INPUT"]);
    const ticket = await client.run("mutation { createUploadTicket { ticket } }", {}, user);
    const args = `, ticket: "${ticket.data.createUploadTicket.ticket}"`;
    const uploaded = async () =>
      (await client.uploadRecord(undefined, sineWav({ seconds: 0.2 }), { args })).data.uploadRecord;
    expect([(await uploaded()).created, (await uploaded()).created]).toEqual([true, false]);
  });

  it("is refused if it is not the issuer's, not for this service, or not now", async () => {
    const stranger = new Issuer();
    await stranger.start();
    const before = await userCount();
    const [publicKey] = issuer.keys;
    const secret = new TextEncoder().encode(JSON.stringify(publicKey));
    const { kid } = issuer.signingKey;
    const claims = { iss: issuer.url, aud: audience, sub: "eve", exp: inSeconds(300) };
    const tokens: Record<string, string> = {
      "of another key": await issuer.token({ sub: "eve" }, { ...stranger.signingKey, kid }),
      "of an unknown key": await issuer.token({ sub: "eve" }, stranger.signingKey),
      "of another issuer": await issuer.token({ sub: "eve", iss: stranger.url }),
      "for another audience": await issuer.token({ sub: "eve", aud: "another" }),
      "for no audience": await issuer.token({ sub: "eve", aud: undefined }),
      "without an end": await issuer.token({ sub: "eve", exp: undefined }),
      "without a subject": await issuer.token({ sub: undefined }),
      "with a number as its subject": await issuer.token({ sub: 5 }),
      "with an object as its subject": await issuer.token({ sub: { id: 5 } }),
      "with an empty subject": await issuer.token({ sub: "" }),
      "with too long a subject": await issuer.token({ sub: "x".repeat(256) }),
      expired: await issuer.token({ sub: "eve", exp: inSeconds(-60) }),
      "of the future": await issuer.token({ sub: "eve", nbf: inSeconds(300) }),
      unsigned: new UnsecuredJWT(claims).encode(),
      "signed with the public key as a secret": await new SignJWT(claims)
        .setProtectedHeader({ alg: "HS256", kid })
        .sign(secret),
      changed: (await issuer.token({ sub: "eve" })).replace(
        /\.[^.]+\./,
        `.${Buffer.from(JSON.stringify({ ...claims, sub: "first" })).toString("base64url")}.`,
      ),
      nonsense: "a.b.c",
    };
    await stranger.stop();
    for (const [what, token] of Object.entries(tokens)) {
      expect([what, ...codeOf(await me(token))]).toEqual([what, 401, "UNAUTHENTICATED"]);
    }
    expect(await userCount()).toBe(before);
  });

  it("is accepted with a clock that is a little wrong", async () => {
    expect((await me(await issuer.token({ exp: inSeconds(-10) }))).status).toBe(200);
    expect((await me(await issuer.token({ nbf: inSeconds(10) }))).status).toBe(200);
  });

  it("may be valid for longer than there are dates", async () => {
    const far = as(await issuer.token({ sub: "far", exp: 1e15 }));
    const { status, data } = await client.run(
      'mutation { createToken(name: "x", scopes: [READ]) { accessToken { expiresAt } } createUploadTicket { ticket } }',
      {},
      far,
    );
    expect([status, data.createToken.accessToken.expiresAt]).toEqual([200, "9999-12-31T23:59:59.000Z"]);
    const start = 'mutation { startUpload(fileName: "a.wav") { created } }';
    expect((await client.run(start, {}, far)).data.startUpload.created).toBe(true);
  });

  it("is refused when the user is disabled", async () => {
    const token = await issuer.token({ sub: "disabled" });
    const { id } = (await me(token)).data.me;
    await service.server.database.pool.query("update app_user set disabled_at = now() where id = $1", [id]);
    expect(codeOf(await me(token))).toEqual([403, "USER_DISABLED"]);
  });

  it("does not keep the service's own tokens from working, nor the reverse", async () => {
    const ann = await client.createUser();
    expect((await client.run("{ me { id } }", {}, ann)).data.me.id).toBe(ann.id);
    await using without = await startService({ DATABASE_URL: service.databaseUrl });
    expect(codeOf(await me(await issuer.token(), new ApiClient(without.url)))).toEqual([401, "UNAUTHENTICATED"]);
  });

  it.each(["ES256", "PS384", "EdDSA"])(
    "is verified with a key of %s, also after the keys were replaced",
    async (alg) => {
      const rotating = new Issuer();
      await rotating.start();
      await using theirs = await startService({
        OIDC_ISSUER: rotating.url,
        OIDC_AUDIENCE: audience,
        DATABASE_URL: service.databaseUrl,
      });
      await rotating.rotate(alg);
      const api = new ApiClient(theirs.url);
      const answers = await Promise.all(Array.from({ length: 5 }, async () => await me(await rotating.token(), api)));
      expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
      // Fetched once for all of them, and then kept.
      expect(rotating.asked).toEqual(["/.well-known/openid-configuration", "/keys"]);
      rotating.isDown = true;
      expect((await me(await rotating.token(), api)).status).toBe(200);
      await rotating.stop();
    },
  );

  it.each([
    ["is down", (broken: Issuer) => void (broken.isDown = true)],
    ["names another issuer", (broken: Issuer) => void (broken.configuration = { issuer: "https://example.com" })],
    [
      "has its keys at an address that others can read",
      (broken: Issuer) => void (broken.configuration = { jwks_uri: "http://192.0.2.1/keys" }),
    ],
    ["answers with too much", (broken: Issuer) => void (broken.configuration = { more: "x".repeat(300_000) })],
  ])("is answered with BUSY when the issuer %s, which is not asked again at once", async (_what, breakIt) => {
    const broken = new Issuer();
    await broken.start();
    breakIt(broken);
    await using theirs = await startService({
      OIDC_ISSUER: broken.url,
      OIDC_AUDIENCE: audience,
      DATABASE_URL: service.databaseUrl,
    });
    const api = new ApiClient(theirs.url);
    for (let attempt = 0; attempt < 3; attempt++) {
      expect(codeOf(await me(await broken.token(), api))).toEqual([503, "BUSY"]);
    }
    expect(broken.asked).toEqual(["/.well-known/openid-configuration"]);
    const ann = await api.createUser();
    expect((await api.run("{ me { id } }", {}, ann)).status).toBe(200);
    await broken.stop();
  });

  it("is answered with BUSY when the issuer's keys are none, and these are not fetched each time", async () => {
    const broken = new Issuer();
    await broken.start();
    broken.configuration = { jwks_uri: `${broken.url}/nothing` };
    await using theirs = await startService({
      OIDC_ISSUER: broken.url,
      OIDC_AUDIENCE: audience,
      DATABASE_URL: service.databaseUrl,
    });
    const api = new ApiClient(theirs.url);
    for (let attempt = 0; attempt < 3; attempt++) {
      expect(codeOf(await me(await broken.token(), api))).toEqual([503, "BUSY"]);
    }
    expect(broken.asked).toEqual(["/.well-known/openid-configuration", "/nothing"]);
    await broken.stop();
  });

  it("holds up nobody else while the issuer does not answer", async () => {
    const slow = new Issuer();
    await slow.start();
    const released = Promise.withResolvers<void>();
    slow.held = released.promise;
    await using theirs = await startService({
      OIDC_ISSUER: slow.url,
      OIDC_AUDIENCE: audience,
      DATABASE_URL: service.databaseUrl,
      DATABASE_POOL_SIZE: "4",
      TRUST_PROXY: "loopback",
    });
    const api = new ApiClient(theirs.url);
    const ann = await api.createUser();
    const token = await slow.token();
    let answered = 0;
    const waiting = Array.from({ length: 40 }, async (_, at) => {
      const answer = await me(token, new ApiClient(theirs.url, () => ({ "x-forwarded-for": `203.0.113.${at % 10}` })));
      answered += 1;
      return answer.status;
    });
    expect(
      await until(
        () => slow.asked.length,
        (count) => count > 0,
      ),
    ).toBe(1);
    for (let at = 0; at < 5; at++) expect((await fetch(`${theirs.url}/healthz`)).status).toBe(200);
    expect((await api.run("{ me { id } }", {}, ann)).data.me.id).toBe(ann.id);
    expect(answered).toBe(0);
    released.resolve();
    expect(await Promise.all(waiting)).toEqual(Array(40).fill(200));
    expect(slow.asked).toEqual(["/.well-known/openid-configuration", "/keys"]); // once for all of them
    await slow.stop();
  });

  it("makes no new user where registration is closed, or beyond its limits", async () => {
    const start = async (env: Record<string, string>) =>
      await startService({
        OIDC_ISSUER: issuer.url,
        OIDC_AUDIENCE: audience,
        DATABASE_URL: service.databaseUrl,
        ...env,
      });
    const before = await userCount();
    await using closed = await start({ REGISTRATION: "closed" });
    expect(codeOf(await me(await issuer.token({ sub: "late" }), new ApiClient(closed.url)))).toEqual([
      403,
      "REGISTRATION_CLOSED",
    ]);
    expect((await me(await issuer.token({ sub: "first" }), new ApiClient(closed.url))).status).toBe(200);
    const ann = await client.createUser("Ann");
    const options = { args: ", visibility: PRIVATE", fields: "url" };
    const { url } = (await client.uploadRecord(ann, sineWav({ seconds: 1 }), options)).data.uploadRecord.record;
    const shared = "query ($url: URL!) { shared(url: $url) { title } }";
    for (const link of [url, url.replace(/id=\w{8}/, "id=00000000")]) {
      const answer = await new ApiClient(closed.url).run(
        shared,
        { url: link },
        as(await issuer.token({ sub: "late" })),
      );
      expect(codeOf(answer)[1]).toBe("NOT_FOUND");
    }
    expect(await userCount()).toBe(before + 1);
    await using strict = await start({ REGISTRATION: "invite", MAX_NEW_USERS_PER_HOUR: "1" });
    const api = new ApiClient(strict.url);
    expect((await me(await issuer.token({ sub: "one" }), api)).status).toBe(200);
    expect(codeOf(await me(await issuer.token({ sub: "two" }), api))).toEqual([429, "RATE_LIMITED"]);
    expect(await userCount()).toBe(before + 2);
  });
});

describe("the settings of the identity provider", () => {
  it.each([
    [{ OIDC_ISSUER: "https://a.example" }, "OIDC_ISSUER and OIDC_AUDIENCE go together"],
    [{ OIDC_AUDIENCE: "x" }, "OIDC_ISSUER and OIDC_AUDIENCE go together"],
    [{ OIDC_ISSUER: "http://a.example", OIDC_AUDIENCE: "x" }, "OIDC_ISSUER must be a URL that starts with https://"],
    [{ OIDC_ISSUER: "https://a.example/?x", OIDC_AUDIENCE: "x" }, "OIDC_ISSUER must not have a query"],
  ])("refuse %j", (env, message) => {
    expect(() => readConfig(env)).toThrow(message);
  });
});
