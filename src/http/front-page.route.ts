import type { FastifyInstance, RouteHandlerMethod } from "fastify";
import type { Config } from "../settings/config.ts";
import { prefersHtml, sendPage } from "./html-page.ts";
import { addVary } from "./vary.ts";

/**
 * `GET /`: the addresses of the service in JSON. Browsers are redirected to Apollo Sandbox if it is on, otherwise they
 * get a page.
 */
export function frontPageRoute(
  app: FastifyInstance,
  { sandbox, publicUrl = "" }: Pick<Config, "sandbox" | "publicUrl">,
): void {
  const addresses = { graphql: `${publicUrl}/graphql`, schema: `${publicUrl}/schema.graphql` };
  const handler: RouteHandlerMethod = async (request, reply) => {
    addVary(reply.header("cache-control", "no-cache"), "Accept");
    if (!prefersHtml(request.headers)) return { service: "web-user-music", ...addresses };
    if (sandbox) return await reply.redirect(addresses.graphql);
    return await sendPage(reply, {
      heading: "Links that play recordings",
      paragraphs: [
        "Apps upload WAV recordings to this service and get links that play them as MP3.",
        "If someone gave you a link to a recording, open the whole link. This address is only its beginning.",
        "If you are writing an app, use the GraphQL API.",
      ],
      links: { "The API": addresses.graphql, "Its schema": addresses.schema },
    });
  };
  app.route({ method: ["GET", "HEAD"], url: "/", handler });
}
