/**
 * The key of a client's address: the whole IPv4 address, or the first 64 bits of an IPv6 address, because a client that
 * has one address of such a network has all of them (RFC 4291 section 2.5.1).
 */
export function addressKey(address: string): string {
  return addressKeys(address).narrow;
}

/**
 * The same key, and a wider one for a site: the first 48 bits of an IPv6 address, which contain 65,536 of the narrow
 * networks (RFC 6177 section 2). An IPv4 address has only one key.
 */
export function addressKeys(address: string): { readonly narrow: string; readonly wide: string } {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined || !address.includes(":")) {
    return { narrow: mapped ?? address, wide: mapped ?? address };
  }
  const [front = "", back] = address.split("%", 1)[0]!.toLowerCase().split("::");
  const first = front === "" ? [] : front.split(":");
  const last = back ? back.split(":") : [];
  const zeros = back === undefined ? 0 : Math.max(0, 8 - first.length - last.length);
  const groups = [...first, ...Array<string>(zeros).fill("0"), ...last].slice(0, 4);
  const short = groups.map((group) => group.replace(/^0+(?=.)/, ""));
  return { narrow: short.join(":"), wide: short.slice(0, 3).join(":") };
}
