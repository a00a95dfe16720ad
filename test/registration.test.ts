import { expect, it } from "@jest/globals";
import { request as httpRequest } from "node:http";
import { json } from "node:stream/consumers";
import { createInvitation, revokeInvitations, setDisabled } from "../src/user/administer-users.ts";
import { ApiClient } from "./support/api-client.ts";
import { startService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

const withInvite = 'mutation ($invite: String) { createUser(name: "Ann", invite: $invite) { user { id } token } }';
const tomorrow = () => new Date(Date.now() + 86_400_000);

it("needs an invitation if it is by invitation: each code once, in time, and only existing ones", async () => {
  await using service = await startService({ REGISTRATION: "invite" });
  const { em, pool } = service.server.database;
  const client = new ApiClient(service.url);
  const refusalOf = async (invite?: string | null) => {
    const { status, data, errors } = await client.run(withInvite, { invite });
    return [status, data, errors?.[0]?.extensions.code, errors?.[0]?.extensions.argument];
  };
  for (const none of [undefined, null]) {
    expect(await refusalOf(none)).toEqual([403, null, "REGISTRATION_CLOSED", "invite"]);
  }
  const code = await createInvitation(em, tomorrow());
  const { rows } = await pool.query("select i::text as row from invitation i");
  expect(JSON.stringify(rows)).not.toContain(code);

  const nonsense = ["", "nonsense", crypto.randomUUID(), "x".repeat(1000)];
  for (const invite of nonsense) expect(await refusalOf(invite)).toEqual([400, null, "BAD_USER_INPUT", "invite"]);
  const blank = await client.run(withInvite.replace("Ann", " "), { invite: code });
  expect(blank.errors![0]!.extensions).toMatchObject({ code: "BAD_USER_INPUT", argument: "name" });

  const together = await Promise.all(
    Array.from({ length: 8 }, async () => await client.run(withInvite, { invite: ` ${code.toUpperCase()} ` })),
  );
  expect(together.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, ...Array<number>(7).fill(400)]);
  const { data } = together.find(({ status }) => status === 200)!;
  const user = { id: data.createUser.user.id, token: data.createUser.token };
  expect((await client.uploadRecord(user, sineWav({ seconds: 0.1 }))).status).toBe(200);

  const expired = await createInvitation(em, new Date(Date.now() - 1000));
  expect((await refusalOf(expired))[2]).toBe("BAD_USER_INPUT");
  const takenBack = await createInvitation(em, tomorrow());
  expect(await revokeInvitations(em)).toBe(1);
  expect((await refusalOf(takenBack))[2]).toBe("BAD_USER_INPUT");
});

it("refuses everybody if it is closed, except existing users", async () => {
  await using open = await startService();
  const ann = await new ApiClient(open.url).createUser();
  await using service = await startService({ DATABASE_URL: open.databaseUrl, REGISTRATION: "closed" });
  const client = new ApiClient(service.url);
  const code = await createInvitation(service.server.database.em, tomorrow());
  for (const invite of [undefined, code]) {
    const { status, data, errors } = await client.run(withInvite, { invite });
    expect([status, data, errors![0]!.extensions.code]).toEqual([403, null, "REGISTRATION_CLOSED"]);
    expect(errors![0]!.message).toContain("Ask the operator");
  }
  expect((await client.run("{ me { id } }", {}, ann)).data).toEqual({ me: { id: ann.id } });
});

/** Creates a user from an address that the proxy names. */
async function createUserFrom(url: string, address: string): Promise<number> {
  const request = httpRequest(`${url}/graphql`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-forwarded-for": address },
  });
  request.end(JSON.stringify({ query: 'mutation { createUser(name: "Ann") { token } }' }));
  return await new Promise((resolve, reject) => {
    request.once("error", reject);
    request.once("response", (response) => {
      json(response).then(() => resolve(response.statusCode!), reject);
    });
  });
}

it("counts new users of all addresses together, without invited ones", async () => {
  await using service = await startService({ TRUST_PROXY: "loopback", ALL_NEW_USERS_PER_HOUR: "3" });
  const statuses: number[] = [];
  for (let at = 0; at < 5; at++) statuses.push(await createUserFrom(service.url, `203.0.113.${at}`));
  expect(statuses).toEqual([200, 200, 200, 429, 429]);
  const invite = await createInvitation(service.server.database.em, tomorrow());
  expect((await new ApiClient(service.url).run(withInvite, { invite })).status).toBe(200);
});

it("counts a whole IPv6 site as four of its addresses, however many it has", async () => {
  await using service = await startService({ TRUST_PROXY: "loopback", MAX_NEW_USERS_PER_HOUR: "2" });
  const statuses: number[] = [];
  for (let at = 0; at < 10; at++) statuses.push(await createUserFrom(service.url, `2001:db8:1:${at}::7`));
  expect(statuses).toEqual([...Array<number>(8).fill(200), 429, 429]);
  expect(await createUserFrom(service.url, "2001:db8:2::7")).toBe(200);
});

it("refuses a disabled user's tokens with a reason, and serves none of the recordings until the user is enabled", async () => {
  await using service = await startService();
  const { em } = service.server.database;
  const client = new ApiClient(service.url);
  const ann = await client.createUser();
  const upload = async (visibility: string) => {
    const { data } = await client.uploadRecord(ann, sineWav({ seconds: 0.5 }), {
      args: `, visibility: ${visibility}`,
      fields: "id url waveformUrl",
    });
    return data.uploadRecord.record;
  };
  const [shared, hidden] = [await upload("PUBLIC"), await upload("PRIVATE")];
  const { data } = await client.run(
    "mutation ($id: ID!) { createLink(recordId: $id) { link { url } } }",
    { id: hidden.id },
    ann,
  );
  const links: string[] = [shared.url, hidden.url, shared.waveformUrl, data.createLink.link.url];
  const headers = { authorization: `Bearer ${ann.token}` };
  const statuses = async () => await Promise.all(links.map(async (url) => (await fetch(url, { headers })).status));
  expect(await statuses()).toEqual([200, 200, 200, 200]);

  await setDisabled(em, Number(ann.id), true);
  expect(await statuses()).toEqual([404, 404, 404, 404]);
  const refused = [
    await client.run("{ me { id } }", {}, ann),
    await client.uploadRecord(ann, sineWav({ seconds: 0.1 })),
    await client.uploadRecord(undefined, sineWav({ seconds: 0.1 }), {
      declarations: ", $userId: ID, $token: UUID",
      args: ", userId: $userId, token: $token",
      variables: { userId: ann.id, token: ann.token },
    }),
  ];
  for (const { status, errors } of refused) {
    expect([status, errors![0]!.extensions.code]).toEqual([403, "USER_DISABLED"]);
    expect(errors![0]!.message).toBe("This user is disabled. Ask the operator of the service.");
  }
  await setDisabled(em, Number(ann.id), false);
  expect(await statuses()).toEqual([200, 200, 200, 200]);
});
