import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { SentStatements, startServiceWithoutIntervals } from "./support/sent-statements.ts";
import type { TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

const absent = "00000000-0000-4000-8000-000000000000";
const everything = "title durationSeconds sizeBytes loudness { integratedLufs } peaks(count: 4) url streamUrl";

describe("shared", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;

  beforeAll(async () => {
    service = await startServiceWithoutIntervals();
    client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  const wav = sineWav({ seconds: 1, channels: 1 });

  async function upload(user: Credentials, visibility: string): Promise<{ id: string; url: string; mp3Url: string }> {
    const options = { args: `, visibility: ${visibility}, title: "Final mix"`, fields: "id url mp3Url" };
    return (await client.uploadRecord(user, wav, options)).data.uploadRecord.record;
  }

  async function share(recordId: string, user = ann): Promise<{ id: string; url: string; mp3Url: string }> {
    const query = "mutation ($recordId: ID!) { createLink(recordId: $recordId) { link { id url mp3Url } } }";
    return (await client.run(query, { recordId }, user)).data.createLink.link;
  }

  async function newToken(user: Credentials, scope: string): Promise<Credentials & { tokenId: string }> {
    const query = `mutation { createToken(name: "x", scopes: [${scope}]) { token accessToken { id } } }`;
    const { token, accessToken } = (await client.run(query, {}, user)).data.createToken;
    return { id: user.id, token, tokenId: accessToken.id };
  }

  const look = async (url: string, user?: Credentials, fields = everything) =>
    await client.run(`query ($url: URL!) { shared(url: $url) { ${fields} } }`, { url }, user);

  it("tells what a link opens, without a token and without anything of the owner", async () => {
    const record = await upload(ann, "PUBLIC");
    const link = await share((await upload(ann, "PRIVATE")).id);
    for (const url of [record.url, link.url]) {
      const { status, data } = await look(url);
      expect([status, data.shared]).toEqual([
        200,
        {
          title: "Final mix",
          durationSeconds: 1,
          sizeBytes: expect.any(Number),
          loudness: { integratedLufs: expect.any(Number) },
          peaks: [expect.any(Number), expect.any(Number), expect.any(Number), expect.any(Number)],
          url,
          streamUrl: url.includes("?") ? `${url}&inline=1` : `${url}?inline=1`,
        },
      ]);
      const played = await fetch(data.shared.streamUrl);
      expect((await played.arrayBuffer()).byteLength).toBe(data.shared.sizeBytes);
    }
    const { data } = await client.run('{ __type(name: "SharedRecording") { fields { name } } }');
    expect(data.__type.fields.map(({ name }: { name: string }) => name).toSorted()).toEqual([
      "chapters",
      "durationSeconds",
      "loudness",
      "peaks",
      "sizeBytes",
      "streamUrl",
      "title",
      "url",
    ]);
  });

  it("is answered beside a field that needs a token, and refused before anything runs if an argument is out of range", async () => {
    const { url } = await upload(ann, "PUBLIC");
    const both = async (count: number) =>
      await client.run(
        `query ($url: URL!, $count: Int!) { record(id: "${absent}") { id } shared(url: $url) { peaks(count: $count) } }`,
        { url, count },
      );
    const answered = await both(1);
    expect([answered.status, answered.data]).toEqual([200, { record: null, shared: { peaks: [expect.any(Number)] } }]);
    expect(answered.errors).toMatchObject([{ path: ["record"], extensions: { code: "UNAUTHENTICATED" } }]);
    const refused = await both(100_000);
    expect([refused.status, refused.data]).toEqual([400, null]);
    expect(refused.errors).toMatchObject([{ path: ["shared", "peaks"], extensions: { code: "BAD_USER_INPUT" } }]);
  });

  it("takes links in every form, at any host", async () => {
    const record = await upload(ann, "PUBLIC");
    const link = await share(record.id);
    const { pathname, search } = new URL(record.url);
    const forms = [
      record.mp3Url,
      link.mp3Url,
      `${link.url}?inline=1`,
      `${link.url}/waveform.json`,
      link.url.replace("/l/", "//L/"),
      `${link.url})`,
      `https://old.example.com${pathname}${search}`,
      `https://example.com/music${pathname}${search}`,
      `${service.url}/record?audio_id=${record.id}&amp;user_id=${ann.id}`,
      `${service.url}/record/%20${record.id}?user=${ann.id}`,
    ];
    for (const url of forms) {
      const { data } = await look(url, undefined, "title");
      expect([url, data?.shared]).toEqual([url, { title: "Final mix" }]);
    }
  });

  it("answers everyone as the link itself does", async () => {
    const bob = await client.createUser("Bob");
    const eve = await client.createUser("Eve");
    const kiosk = await newToken(ann, "UPLOAD");
    const revoked = await newToken(ann, "READ");
    const open = await upload(ann, "PUBLIC");
    const hidden = await upload(ann, "PRIVATE");
    const fromKiosk = await upload(kiosk, "PRIVATE");
    const deleted = await upload(ann, "PUBLIC");
    const ofDisabled = await upload(eve, "PUBLIC");
    const [good, expired, withdrawn] = [await share(hidden.id), await share(hidden.id), await share(hidden.id)];
    const sharedByDisabled = await share(ofDisabled.id, eve);
    const { pool } = service.server.database;
    await pool.query("update share_link set expires_at = now() where id = $1", [expired.id]);
    await pool.query("update app_user set disabled_at = now() where id = $1", [eve.id]);
    await client.run("mutation ($id: ID!) { revokeLink(id: $id) { revokedId } }", { id: withdrawn.id }, ann);
    await client.run("mutation ($id: ID!) { deleteRecord(id: $id) { deletedId } }", { id: deleted.id }, ann);
    await client.run("mutation ($id: ID!) { revokeToken(id: $id) { revokedId } }", { id: revoked.tokenId }, ann);

    const links = {
      "a public link": open.url,
      "a private link": hidden.url,
      "a private link to what a kiosk has uploaded": fromKiosk.url,
      "a link to a deleted recording": deleted.url,
      "a link of a disabled user": ofDisabled.url,
      "a share link of a disabled user": sharedByDisabled.url,
      "a link with another user": open.url.replace(`user=${ann.id}`, `user=${bob.id}`),
      "a link to nothing": open.url.replace(open.id, absent),
      "a link without a user": open.url.replace(/&user=\d+/, ""),
      "a link without a recording": `${service.url}/record?user=${ann.id}`,
      "a share link": good.url,
      "an expired share link": expired.url,
      "a revoked share link": withdrawn.url,
      "an unknown share link": `${service.url}/l/${"x".repeat(32)}`,
      "half a share link": `${service.url}/l/abc`,
      "no link": `${service.url}/records/${open.id}`,
      "too long a path": `${good.url}/a/b`,
    };
    const callers = {
      nobody: undefined,
      "a wrong token": { id: ann.id, token: absent },
      "another user": bob,
      "a disabled user": eve,
      "the owner": ann,
      "a token with READ": await newToken(ann, "READ"),
      "a token with MANAGE": await newToken(ann, "MANAGE"),
      "the kiosk": kiosk,
      "another kiosk": await newToken(ann, "UPLOAD"),
      "a revoked token": revoked,
    };
    const [told, linked]: [Record<string, string>, Record<string, string>] = [{}, {}];
    for (const [what, url] of Object.entries(links)) {
      for (const [who, user] of Object.entries(callers)) {
        const itself = await fetch(url, user && { headers: { authorization: `Bearer ${user.token}` } });
        const error = itself.ok ? undefined : (await itself.json()).error;
        if (itself.ok) await itself.arrayBuffer();
        const { status, errors } = await look(url, user, "title");
        const refusal = errors?.[0];
        linked[`${what} to ${who}`] = `${itself.status} ${error?.code} ${error?.message}`;
        told[`${what} to ${who}`] = `${status} ${String(refusal?.extensions.code)} ${refusal?.message}`;
      }
    }
    // An address without a route has a sentence of its own.
    const plain = (answers: Record<string, string>) =>
      Object.fromEntries(
        Object.entries(answers).map(([name, text]) => [name, text.replace(/NOT_FOUND .*/, "NOT_FOUND")]),
      );
    expect(plain(told)).toEqual(plain(linked));
    expect(told["a private link to nobody"]).toBe(told["a link to nothing to nobody"]);
    expect(told["a private link to another user"]).toBe(told["a link to nothing to another user"]);
    expect(told["a link of a disabled user to nobody"]).toBe(told["a link to nothing to nobody"]);
    expect(new Set(Object.values(told).map((text) => text.slice(0, 3)))).toEqual(new Set(["200", "400", "404", "410"]));
  });

  it("counts no download, and takes three statements with everything", async () => {
    const record = await upload(ann, "PRIVATE");
    const link = await share(record.id);
    using sent = new SentStatements(service.server.database.pool);
    expect((await look(link.url)).status).toBe(200);
    expect(sent.take()).toHaveLength(3);
    const { data } = await client.run("query ($id: ID!) { record(id: $id) { links { downloads } } }", record, ann);
    expect(data.record.links).toEqual([{ downloads: 0 }]);
  });

  it("refuses a number of peaks out of range, and what is no URL", async () => {
    const { url } = await upload(ann, "PUBLIC");
    for (const answer of [await look(url, undefined, "peaks(count: 5000)"), await look("take.mp3")]) {
      expect([answer.status, answer.errors?.[0]?.extensions.code]).toEqual([400, "BAD_USER_INPUT"]);
    }
  });
});
