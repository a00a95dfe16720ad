import type { FastifyInstance, FastifyRequest } from "fastify";

/** What must be true for the service to take requests: the reason why not, or undefined if it is. */
export interface ReadinessCheck {
  readonly check: () => Promise<string | undefined>;
  /** Seconds that an outcome is good for: probes, whoever sends them, cost no more than one check in that time. */
  readonly validSeconds: number;
}

/** Whether a request asks for the service's health, whatever name it uses for the machine. */
export function isProbe({ routeOptions }: Pick<FastifyRequest, "routeOptions">): boolean {
  return routeOptions.url === "/healthz" || routeOptions.url === "/readyz";
}

/** How long a check may take; a silent database is no good one. */
const maxCheckMs = 3000;

/** `GET /healthz`: the process answers. `GET /readyz`: it can do its work; 503 with the reasons otherwise. */
export function healthRoutes(app: FastifyInstance, checks: Readonly<Record<string, ReadinessCheck>>): void {
  const outcomes = Object.entries(checks).map(([name, check]) => [name, remembered(check)] as const);
  app.get("/healthz", { logLevel: "warn" }, async () => ({ status: "ok" }));

  app.get("/readyz", { logLevel: "warn" }, async (_request, reply) => {
    const entries = await Promise.all(
      outcomes.map(async ([name, outcome]) => [name, (await outcome()) ?? "ok"] as const),
    );
    const ready = entries.every(([, outcome]) => outcome === "ok");
    void reply.code(ready ? 200 : 503).header("cache-control", "no-store");
    return { status: ready ? "ok" : "unavailable", checks: Object.fromEntries(entries) };
  });
}

/** The check's outcome, found at most once in its time. */
function remembered({ check, validSeconds }: ReadinessCheck): () => Promise<string | undefined> {
  let outcome: Promise<string | undefined> | undefined;
  let validUntil = 0;
  return async () => {
    if (!outcome || performance.now() >= validUntil) {
      outcome = inTime(check());
      validUntil = Infinity;
      const expire = () => (validUntil = performance.now() + validSeconds * 1000);
      outcome.then(expire, expire);
    }
    return await outcome;
  };
}

async function inTime(checking: Promise<string | undefined>): Promise<string | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<string>();
  const timer = setTimeout(() => resolve("does not answer"), maxCheckMs);
  try {
    return await Promise.race([checking, late]);
  } finally {
    clearTimeout(timer);
  }
}
