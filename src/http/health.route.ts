import type { FastifyInstance, FastifyRequest } from "fastify";

/** A condition for serving requests. It returns the reason why the service is not ready, or undefined if it is. */
interface ReadinessCheck {
  readonly check: () => Promise<string | undefined>;
  /**
   * How long a good result is valid, in seconds. Any number of probes in that time cost one check. A bad result is
   * valid for at most one second, so that a service that has recovered gets its requests back.
   */
  readonly validSeconds: number;
}

/** Whether a request is a health check, under any host name. */
export function isProbe({ routeOptions }: Pick<FastifyRequest, "routeOptions">): boolean {
  return routeOptions.url === "/healthz" || routeOptions.url === "/readyz";
}

/** Maximum duration of a check, in milliseconds. A database that does not answer counts as down. */
const maxCheckMs = 3000;

/**
 * `GET /healthz` answers 200 while the process runs. `GET /readyz` answers 200 if the service can do its work,
 * otherwise 503 with the reasons.
 */
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

/** Caches the result of a check while it is valid. */
function remembered({ check, validSeconds }: ReadinessCheck): () => Promise<string | undefined> {
  let outcome: Promise<string | undefined> | undefined;
  let validUntil = 0;
  return async () => {
    if (!outcome || performance.now() >= validUntil) {
      outcome = inTime(check());
      validUntil = Infinity;
      const seconds = (fault?: string) => (fault === undefined ? validSeconds : Math.min(validSeconds, 1));
      void outcome.then((fault) => (validUntil = performance.now() + seconds(fault) * 1000));
    }
    return await outcome;
  };
}

async function inTime(checking: Promise<string | undefined>): Promise<string | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<string>();
  const timer = setTimeout(() => resolve("does not answer"), maxCheckMs);
  try {
    return await Promise.race([checking, late]);
  } catch {
    return "cannot be checked";
  } finally {
    clearTimeout(timer);
  }
}
