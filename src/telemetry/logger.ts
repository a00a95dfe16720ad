import { pino, type Logger } from "pino";
import type { Socket } from "node:net";
import { clientAddress } from "../addresses/client-address.ts";
import type { Config } from "../settings/config.ts";

export type { Logger };

/** Fields of a PostgreSQL error that may repeat what users sent, such as the values of a row. */
const repeatsValues = new Set(["detail", "where", "internalQuery", "dataType", "parameters"]);

/**
 * Creates the logger, which writes JSON lines to standard output. It logs only the route of a request's address, such
 * as `/l/:secret`, so that tokens, ids and secrets in addresses are never logged.
 */
export function createLogger({ logLevel }: Pick<Config, "logLevel">): Logger {
  return pino({
    level: logLevel,
    base: undefined,
    timestamp: pino.stdTimeFunctions.isoTime,
    redact: ["req.headers", "headers", "token", "*.token"],
    serializers: {
      req: (request: { method: string; routeOptions?: { url?: string }; ip: string; socket: Socket }) => ({
        method: request.method,
        route: request.routeOptions?.url ?? "[unknown]",
        client: clientAddress(request),
      }),
      err: (error: Error) => {
        const { aggregateErrors, ...described } = pino.stdSerializers.err(error);
        const safe = Object.entries(described).filter(([name]) => !repeatsValues.has(name));
        return { ...Object.fromEntries(safe), ...(aggregateErrors && { aggregateErrors: aggregateErrors.length }) };
      },
      res: (reply: { statusCode: number }) => ({ status: reply.statusCode }),
    },
  });
}
