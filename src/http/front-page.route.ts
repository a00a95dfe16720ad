import type { FastifyInstance, RouteHandlerMethod } from "fastify";
import type { Config } from "../settings/config.ts";
import { prefersHtml, sendPage } from "./html-page.ts";
import { addVary } from "./vary.ts";

/** What `GET /` tells programs. */
export function serviceAddresses(publicUrl = ""): Readonly<Record<string, string>> {
  return { service: "web-user-music", graphql: `${publicUrl}/graphql`, schema: `${publicUrl}/schema.graphql` };
}

/**
 * `GET /` without the web page: the addresses of the service in JSON. Browsers are redirected to Apollo Sandbox if it
 * is on, otherwise they get a few sentences.
 */
export function frontPageRoute(
  app: FastifyInstance,
  { sandbox, publicUrl = "" }: Pick<Config, "sandbox" | "publicUrl">,
): void {
  const addresses = serviceAddresses(publicUrl);
  const handler: RouteHandlerMethod = async (request, reply) => {
    addVary(reply.header("cache-control", "no-cache"), "Accept");
    if (!prefersHtml(request.headers)) return addresses;
    if (sandbox) return await reply.redirect(`${publicUrl}/graphql`);
    return await sendPage(reply, {
      heading: "Links that play recordings",
      paragraphs: [
        "Apps upload WAV recordings to this service and get links that play them as MP3.",
        "If someone gave you a link to a recording, open the whole link. This address is only its beginning.",
        "If you are writing an app, use the GraphQL API.",
      ],
      links: { "The API": `${publicUrl}/graphql`, "Its schema": `${publicUrl}/schema.graphql` },
    });
  };
  app.route({ method: ["GET", "HEAD"], url: "/", handler });
}
