// Traces by OpenTelemetry, for whoever wants them: the service does not depend on it. Copy this file into a folder of your own. There:
//
//   npm install @opentelemetry/sdk-node @opentelemetry/instrumentation-http @opentelemetry/instrumentation-pg
//
// Then start the service in its own folder; `npm start` would also trace the build:
//
//   npm run build && NODE_ENV=production OTEL_SERVICE_NAME=web-user-music OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 \
//     node --import /path/to/tracing.mjs --enable-source-maps --max-semi-space-size=8 dist/src/main.js
//
// OTEL_TRACES_SAMPLER=parentbased_traceidratio and OTEL_TRACES_SAMPLER_ARG=0.01 trace one request in a hundred.
import { HttpInstrumentation } from "@opentelemetry/instrumentation-http";
import { PgInstrumentation } from "@opentelemetry/instrumentation-pg";
import { NodeSDK } from "@opentelemetry/sdk-node";
import { register } from "node:module";

register("@opentelemetry/instrumentation/hook.mjs", import.meta.url);

/** Of an address, its first part only: behind it there are secrets of links, and ids. */
function withoutSecrets({ url = "" }) {
  const [, first = ""] = url.split(/[/?]/, 2);
  const known = /^(graphql|record|l|play|listen|embed|oembed|uploads|healthz|readyz)$/;
  return { "url.path": known.test(first) ? `/${first}` : "/", "url.query": "", "http.target": "", "http.url": "" };
}

/** Of a statement, its verb and table only: MikroORM writes values into it, such as names of users. Older versions say `db.statement`. */
function withoutValues(span, { query }) {
  const text = query.text.slice(0, 2000).replaceAll(/'[^']*(?:'|$)/g, "''");
  const [verb = ""] = /^\s*\w+/.exec(text) ?? [];
  const [, table = ""] = /\b(?:from|into|update|copy|join)\s+"?(\w+)/i.exec(text) ?? [];
  const words = `${verb.trim()} ${table}`.trim().slice(0, 80);
  span.setAttributes({ "db.query.text": words, "db.statement": words });
}

new NodeSDK({
  instrumentations: [
    // Not of requests to S3, whose addresses are ids of recordings.
    new HttpInstrumentation({ startIncomingSpanHook: withoutSecrets, disableOutgoingRequestInstrumentation: true }),
    new PgInstrumentation({ requestHook: withoutValues }),
  ],
}).start();
