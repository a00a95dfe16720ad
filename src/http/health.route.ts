import type { FastifyInstance } from "fastify";

/** What must be true for the service to take requests: the reason why not, or undefined if it is. */
export type ReadinessCheck = () => Promise<string | undefined>;

/** `GET /healthz`: the process answers. `GET /readyz`: it can do its work; 503 with the reasons otherwise. */
export function healthRoutes(app: FastifyInstance, checks: Readonly<Record<string, ReadinessCheck>>): void {
  app.get("/healthz", { logLevel: "warn" }, async () => ({ status: "ok" }));

  app.get("/readyz", { logLevel: "warn" }, async (_request, reply) => {
    const entries = await Promise.all(
      Object.entries(checks).map(async ([name, check]) => [name, (await check()) ?? "ok"] as const),
    );
    const ready = entries.every(([, outcome]) => outcome === "ok");
    void reply.code(ready ? 200 : 503).header("cache-control", "no-store");
    return { status: ready ? "ok" : "unavailable", checks: Object.fromEntries(entries) };
  });
}
