import type { ApolloServerPlugin } from "@apollo/server";
import { ApolloServerPluginLandingPageDisabled } from "@apollo/server/plugin/disabled";
import { ApolloServerPluginLandingPageLocalDefault } from "@apollo/server/plugin/landingPage/default";
import type { Page } from "../http/html-page.ts";
import { pathOfOrigin } from "../http/request-origin.ts";
import { securityHeaders } from "../http/security-headers.ts";
import type { Config } from "../settings/config.ts";
import { exampleDocument, exampleHeaders } from "./example-document.ts";

/** What a browser gets that opens the address of the API where there is no Sandbox. */
export function pageForPeople({ publicUrl = "" }: Pick<Config, "publicUrl">): Page {
  return {
    heading: "This address is for programs",
    paragraphs: ["Apps send GraphQL requests to this address with POST. A browser shows nothing here."],
    links: { "The schema of the API": `${publicUrl}/schema.graphql` },
  };
}

/** The page of Apollo Sandbox, if it is on. */
export function landingPage({ sandbox, publicUrl }: Pick<Config, "sandbox" | "publicUrl">): ApolloServerPlugin {
  if (!sandbox) return ApolloServerPluginLandingPageDisabled();
  const page = ApolloServerPluginLandingPageLocalDefault({
    document: exampleDocument,
    headers: exampleHeaders,
    embed: { runTelemetry: false, initialState: { sharedHeaders: { "apollo-require-preflight": "true" } } },
    includeCookies: false,
    footer: false,
  });
  return withExplorerLink(page, publicUrl === undefined ? "" : pathOfOrigin(publicUrl));
}

/**
 * Adds a link to the explorer to the page of Sandbox, after the sentence that is seen only if Sandbox does not load.
 * @param prefix the path under which a proxy has the service, or nothing
 */
function withExplorerLink(page: ApolloServerPlugin, prefix: string): ApolloServerPlugin {
  return {
    serverWillStart: async (service) => {
      const listener = await page.serverWillStart?.(service);
      if (!listener?.renderLandingPage) return listener;
      const html = async () => {
        const rendered = await listener.renderLandingPage!();
        const made = typeof rendered.html === "string" ? rendered.html : await rendered.html();
        return linkedToExplorer(made, prefix);
      };
      return { ...listener, renderLandingPage: async () => ({ html }) };
    },
  };
}

/** Sandbox's empty place covers the page, and would take the clicks. */
function linkedToExplorer(html: string, prefix: string): string {
  const link = `<p><a href="${prefix}/explore">No internet? Use the explorer that comes with the service</a></p>`;
  const style = /<style nonce=\w+>/.exec(html)?.[0] ?? "<style>";
  return html
    .replace("you might be offline.</p>", `$&${link}`)
    .replace('<div id="embeddableSandbox">', `${style}#embeddableSandbox:empty{pointer-events:none}</style>$&`);
}

/** Headers of the Sandbox page. The service sends the page; its script, frame and images come from Apollo. */
export const sandboxHeaders = securityHeaders({
  defaultSrc: ["'none'"],
  scriptSrc: ["'unsafe-inline'", "https://*.apollographql.com"],
  styleSrc: ["'unsafe-inline'", "https://*.apollographql.com", "https://fonts.googleapis.com"],
  fontSrc: ["https://fonts.gstatic.com"],
  imgSrc: ["data:", "https://*.apollographql.com"],
  manifestSrc: ["https://*.apollographql.com"],
  frameSrc: ["https://*.apollographql.com"],
  connectSrc: ["'self'", "https://*.apollographql.com"],
  frameAncestors: ["'none'"],
});
