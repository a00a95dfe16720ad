import type { FastifyInstance } from "fastify";
import type { GraphQLSchema } from "graphql";
import { answerText } from "../http/answer-text.ts";
import { printSdl } from "./print-sdl.ts";

/**
 * `GET /schema.graphql`: the schema in the definition language, for code generators and for people. It is not secret,
 * so it is served even if introspection is off.
 */
export function schemaRoute(app: FastifyInstance, schema: GraphQLSchema): void {
  const body = printSdl(schema);
  app.route({
    method: ["GET", "HEAD"],
    url: "/schema.graphql",
    handler: async (request, reply) => {
      void reply.headers({ "access-control-allow-origin": "*", "cross-origin-resource-policy": "cross-origin" });
      const contentType = "text/plain; charset=utf-8";
      return await answerText(request, reply, { body, contentType, cacheControl: "no-cache" });
    },
  });
}
