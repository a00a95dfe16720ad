import { expect, it } from "@jest/globals";
import { once } from "node:events";
import { connect } from "node:net";
import { networkInterfaces } from "node:os";
import { RawConnection } from "./support/raw-http.ts";
import { startService } from "./support/service.ts";

it("listens on both addresses of localhost with the same handlers", async () => {
  await using service = await startService({ HOST: "localhost" });
  const port = Number(new URL(service.url).port);
  // A machine may have no IPv6.
  const hosts = ["127.0.0.1", "::1"].filter((host) =>
    Object.values(networkInterfaces()).some((addresses) => addresses?.some(({ address }) => address === host)),
  );
  for (const host of hosts) {
    const socket = connect({ port, host });
    await once(socket, "connect");
    using connection = new RawConnection(socket);
    const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`;
    await connection.send(`${get("/healthz")}${get("/nothing")}no HTTP\r\n\r\n`);
    expect((await connection.answer())?.body).toBe('{"status":"ok"}');
    expect((await connection.answer())?.status).toBe(404);
    const refusal = await connection.answer();
    expect(JSON.parse(refusal?.body ?? "")).toMatchObject({ error: { code: "BAD_REQUEST" } });
    expect(refusal?.headers.get("access-control-allow-origin")).toBe("*");
  }
});
