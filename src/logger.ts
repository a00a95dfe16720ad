import { pino, type Logger } from "pino";
import type { Socket } from "node:net";
import { clientAddress } from "./client-address.ts";
import type { Config } from "./config.ts";

export type { Logger };

/**
 * The one logger: JSON lines on standard output. A request is logged as method, path and id only, so that tokens in
 * headers and ids in query strings are never written down; nor is the secret in a link.
 */
export function createLogger({ logLevel }: Pick<Config, "logLevel">): Logger {
  return pino({
    level: logLevel,
    base: undefined,
    timestamp: pino.stdTimeFunctions.isoTime,
    redact: ["req.headers", "headers", "token", "*.token"],
    serializers: {
      req: (request: { method: string; url: string; ip: string; socket: Socket }) => ({
        method: request.method,
        path: request.url.split("?", 1)[0]!.replace(/(?<=\/l\/).*/i, "[secret]"),
        client: clientAddress(request),
      }),
      res: (reply: { statusCode: number }) => ({ status: reply.statusCode }),
    },
  });
}
