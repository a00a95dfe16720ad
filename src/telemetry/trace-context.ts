/** Version, trace id, id of the parent, flags; versions after 00 may have more. */
const traceParent = /^([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-[\da-f]{2}(-.*)?$/;

/**
 * The trace id of a request, 32 hexadecimal digits, from its header `traceparent`; undefined if there is none, or if it
 * is not valid (W3C Trace Context, section 3.2).
 */
export function traceIdOf(header: unknown): string | undefined {
  const parts = typeof header === "string" ? traceParent.exec(header) : null;
  if (!parts) return undefined;
  const [, version, traceId, parentId, more] = parts;
  const isVersion = version === "00" ? more === undefined : version !== "ff";
  return isVersion && ![traceId, parentId].some((id) => /^0*$/.test(id!)) ? traceId : undefined;
}
