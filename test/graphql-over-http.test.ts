import { describe, expect, it } from "@jest/globals";
import { serverAudits } from "graphql-http";
import { startService } from "./support/service.ts";

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
});
