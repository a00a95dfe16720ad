import { markdownTable } from "../settings/markdown-table.ts";
import { documentedErrorCodes } from "./documented-error-codes.ts";

/** Returns the text of `docs/errors.md`. */
export function printErrorPage(): string {
  const rows = documentedErrorCodes
    .toSorted((a, b) => a.status - b.status || (a.code < b.code ? -1 : 1))
    .map(({ code, status, meaning, advice }) => [`\`${code}\``, String(status), meaning, advice]);
  return `# Errors

<!-- Written by npm run schema from src/errors/errors.ts; do not edit. -->

Every error has a stable code and a sentence for people. Many also have values that a client can use; the table names them
like \`this\`.

- In GraphQL, the code and the values are in \`errors[0].extensions\`, and the sentence is in \`errors[0].message\`. The enum
  \`ErrorCode\` of the schema lists the codes.
- Elsewhere, for example at a recording's link, they are in the JSON body \`{ "error": { "code", "message", ... } }\`. A client
  that prefers \`text/html\`, as browsers do, gets a page with the sentence instead.

\`BAD_USER_INPUT\` names the \`argument\`, including the path to the value: \`filter.createdAt.from\`.

Every error also has a \`requestId\`. The response header \`X-Request-Id\` and the service's log have the same id: include it
when you report a fault.

If \`data\` is absent or null, nothing was done, and the HTTP status is that of the code. If a response has some data, its status
is 200, and it has both \`data\` and \`errors\`: the mutation fields that are not null were done.

If waiting helps, \`retryAfterSeconds\` is also in the header \`Retry-After\`. New codes may be added: handle unknown ones by their
HTTP status.

${markdownTable(["code", "status", "meaning", "what to do"], rows)}
`;
}
