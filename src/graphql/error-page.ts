import { documentedErrorCodes } from "./error-code.type.ts";

/** The text of `docs/errors.md`. */
export function printErrorPage(): string {
  const rows = documentedErrorCodes
    .toSorted((a, b) => a.status - b.status || (a.code < b.code ? -1 : 1))
    .map(({ code, status, meaning, advice }) => [`\`${code}\``, String(status), meaning, advice]);
  return `# Errors

<!-- Written by npm run schema from src/errors/errors.ts; do not edit. -->

Every refusal has a stable code, a sentence for people, and often a fact that a client can use, which the table names
like \`this\`. In GraphQL they stand in \`errors[0].extensions\` (\`code\` and the facts) and \`errors[0].message\`; elsewhere,
for instance under a recording's link, in the JSON body \`{ "error": { "code", "message", ... } }\`. Whoever likes
\`text/html\` better, as browsers do, gets the sentence in a page there. The schema has the codes as the enum \`ErrorCode\`.
\`BAD_USER_INPUT\` names the \`argument\`, with the input fields on the way to the value: \`filter.createdAt.from\`.

Every error also has a \`requestId\`. The header \`X-Request-Id\` and the service's log have the same one: name it when you
report a fault.

The HTTP status goes with the code where \`data\` is absent or null: nothing was done then. An answer that has some data
is a 200 with both \`data\` and \`errors\`: the fields of a mutation that are not null were done. Where waiting helps, \`retryAfterSeconds\` is also in the header
\`Retry-After\`. New codes may come: treat one that is unknown by its status.

${table(["code", "status", "meaning", "what to do"], rows)}
`;
}

/** A Markdown table with its columns aligned, as the formatter leaves it. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => row[column]!.length)));
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`;
  return [line(head), line(widths.map((width) => "-".repeat(width))), ...rows.map(line)].join("\n");
}
