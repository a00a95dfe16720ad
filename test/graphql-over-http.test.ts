import { describe, expect, it } from "@jest/globals";
import { serverAudits } from "graphql-http";
import { ApiClient } from "./support/api-client.ts";
import { startService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

describe("GraphQL over HTTP", () => {
  it("passes every audit of what a server must do", async () => {
    await using service = await startService({ INTROSPECTION: "true" });
    const audits = serverAudits({ url: `${service.url}/graphql` }).filter(({ name }) => name.startsWith("MUST"));
    expect(audits.length).toBeGreaterThan(10);
    for (const audit of audits) {
      const result = await audit.fn();
      expect({ name: audit.name, status: result.status }).toEqual({ name: audit.name, status: "ok" });
    }
  });

  it("treats an empty operation name as missing, in each form of a request", async () => {
    await using service = await startService();
    const query = "query A { __typename }";
    const json = JSON.stringify({ query, operationName: "" });
    const search = `?operationName=&query=${encodeURIComponent(query)}`;
    const { token } = await new ApiClient(service.url).createUser();
    const form = new FormData();
    const upload = "mutation A($file: Upload!) { uploadRecord(file: $file) { record { title } } }";
    form.set("operations", JSON.stringify({ query: upload, operationName: "", variables: { file: null } }));
    form.set("map", '{"0":["variables.file"]}');
    form.set("0", new Blob([new Uint8Array(sineWav({ seconds: 1 }))]));
    const headers = { authorization: `Bearer ${token}` };
    const address = `${service.url}/graphql`;
    const answers = [
      await fetch(address, { method: "POST", headers: { "content-type": "application/json" }, body: json }),
      await fetch(`${address}${search}`, { headers }),
      await fetch(address, { method: "POST", headers, body: form }),
    ];
    expect(await Promise.all(answers.map(async (answer) => await answer.json()))).toEqual([
      { data: { __typename: "Query" } },
      { data: { __typename: "Query" } },
      { data: { uploadRecord: { record: { title: "Recording" } } } },
    ]);
  });
});
