import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { ApiClient, type Answer, type Credentials } from "./support/api-client.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

const renew = "mutation ($id: ID) { renewToken(id: $id) { token accessToken { id name scopes parentId } } }";

describe("a token with another secret", () => {
  let service: TestService;
  let client: ApiClient;

  beforeAll(async () => {
    service = await startService();
    client = new ApiClient(service.url);
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  const newToken = async (user: Credentials, scopes: string[]): Promise<Credentials & { tokenId: string }> => {
    const query = `mutation ($scopes: [TokenScope!]) { createToken(name: "other", scopes: $scopes) { token accessToken { id } } }`;
    const { data } = await client.run(query, { scopes }, user);
    return { id: user.id, token: data.createToken.token, tokenId: data.createToken.accessToken.id };
  };
  const renewed = async (user: Credentials, id?: string): Promise<Credentials & { accessToken: { id: string } }> => {
    const { data } = await client.run(renew, { id }, user);
    return { id: user.id, ...data.renewToken };
  };
  const statusOf = async (user: Credentials): Promise<number> => (await client.run("{ me { id } }", {}, user)).status;
  const codeOf = ({ status, errors }: Answer): unknown[] => [status, errors?.[0]?.extensions.code];

  it("is the same token: it keeps its id, and the tokens that were created with it", async () => {
    const ann = await client.createUser();
    const phone = await newToken(ann, ["READ"]);
    const again = await renewed(ann);
    expect(again.accessToken).toMatchObject({ name: "first", scopes: ["READ", "WRITE", "MANAGE"], parentId: null });
    const { data } = await client.run("{ me { tokens { id name parentId } } }", {}, again);
    expect(data.me.tokens).toEqual([
      { id: phone.tokenId, name: "other", parentId: again.accessToken.id },
      { id: again.accessToken.id, name: "first", parentId: null },
    ]);
    expect(await statusOf(phone)).toBe(200);
  });

  it("has its old secret until the new one is used, at every replica, and never afterwards", async () => {
    await using replica = await startService({ DATABASE_URL: service.databaseUrl });
    const ann = await client.createUser();
    const again = await renewed(ann);
    expect(await statusOf(ann)).toBe(200); // the response might be lost
    const uses = Array.from(
      { length: 5 },
      async () => await new ApiClient(replica.url).run("{ me { id } }", {}, again),
    );
    expect((await Promise.all(uses)).map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
    expect(await statusOf(ann)).toBe(401);
    expect(await statusOf(again)).toBe(200);
    const third = await renewed(again);
    expect([await statusOf(third), await statusOf(again), await statusOf(ann)]).toEqual([200, 401, 401]);
  });

  it("has the last of several new secrets", async () => {
    const ann = await client.createUser();
    const [lost, last] = [await renewed(ann), await renewed(ann)];
    expect([await statusOf(lost), await statusOf(last), await statusOf(ann)]).toEqual([401, 200, 401]);
  });

  it("still reads what it uploaded", async () => {
    const ann = await client.createUser();
    const kiosk = await newToken(ann, ["UPLOAD"]);
    const { data } = await client.uploadRecord(kiosk, sineWav({ seconds: 0.1 }), { fields: "id" });
    const again = await renewed(ann, kiosk.tokenId);
    const { id } = data.uploadRecord.record;
    expect((await client.run("query ($id: ID!) { record(id: $id) { id } }", { id }, again)).data.record).toEqual({
      id,
    });
    expect(codeOf(await client.uploadRecord(kiosk, sineWav({ seconds: 0.1 })))).toEqual([401, "UNAUTHENTICATED"]);
  });

  it("is not given to a token that it does not descend from, nor to one without MANAGE", async () => {
    const [ann, bob] = [await client.createUser(), await client.createUser("Bob")];
    const [first] = (await client.run("{ me { tokens { id } } }", {}, ann)).data.me.tokens;
    const manager = await newToken(ann, ["MANAGE"]);
    const sibling = await newToken(ann, ["READ", "WRITE"]);
    expect(codeOf(await client.run(renew, { id: first.id }, manager))).toEqual([403, "FORBIDDEN"]);
    expect(codeOf(await client.run(renew, { id: sibling.tokenId }, manager))).toEqual([403, "FORBIDDEN"]);
    expect(codeOf(await client.run(renew, {}, sibling))).toEqual([403, "FORBIDDEN"]);
    expect(codeOf(await client.run(renew, { id: first.id }, bob))).toEqual([404, "NOT_FOUND"]);
    expect(codeOf(await client.run(renew, { id: "nonsense" }, bob))).toEqual([404, "NOT_FOUND"]);
    expect(await statusOf(ann)).toBe(200);
  });

  it("does not work after it has expired or was revoked", async () => {
    const ann = await client.createUser();
    const phone = await newToken(ann, ["READ"]);
    const again = await renewed(ann, phone.tokenId);
    await service.server.database.pool.query("update access_token set expires_at = now() where id = $1", [
      phone.tokenId,
    ]);
    expect(await statusOf(again)).toBe(401);
    const other = await newToken(ann, ["READ"]);
    const otherAgain = await renewed(ann, other.tokenId);
    await client.run("mutation ($id: ID!) { revokeToken(id: $id) { revokedId } }", { id: other.tokenId }, ann);
    expect([await statusOf(other), await statusOf(otherAgain)]).toEqual([401, 401]);
  });
});
