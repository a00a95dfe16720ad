import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { fastify, type FastifyInstance } from "fastify";
import { healthRoutes } from "../src/http/health.route.ts";
import { until } from "./support/until.ts";

describe("GET /readyz", () => {
  let app: FastifyInstance;
  let fault: string | undefined = "does not run";
  let checks = 0;
  const probe = async () => (await app.inject("/readyz")).statusCode;

  beforeAll(() => {
    app = fastify();
    const check = async () => {
      checks += 1;
      return fault;
    };
    healthRoutes(app, { program: { check, validSeconds: 600 } });
  });

  afterAll(async () => await app.close());

  it("forgets a bad result soon, so that a service that has recovered is ready again", async () => {
    expect(await probe()).toBe(503);
    fault = undefined;
    expect(await until(probe, (status) => status === 200)).toBe(200);
  });

  it("makes one check for many probes while a good result is valid", async () => {
    const before = checks;
    expect(new Set(await Promise.all(Array.from({ length: 50 }, probe)))).toEqual(new Set([200]));
    expect(checks).toBe(before);
  });
});
