/**
 * Checks the URL of a PostgreSQL and returns it unchanged. It refuses what node-postgres would misread, or would report
 * without naming the setting.
 * @throws {RangeError} with what to write instead
 */
export function parseDatabaseUrl(given: string): string {
  // libpq's form for a Unix socket, `postgresql://user@/database?host=/var/run/postgresql`, has no host before the
  // path.
  const parsable = given.replace("@/", "@localhost/");
  const [, authority = ""] = /^[a-z]+:\/\/([^/?#]*)/.exec(given) ?? [];
  const fault = !/^postgres(ql)?:\/\//.test(given)
    ? "must be a URL that starts with postgres:// or postgresql://"
    : given.includes("#")
      ? "must not contain #: write %23 for a # in the password"
      : /%(?![\da-f]{2})/i.test(given)
        ? "contains a % that escapes nothing: write %25 for a % in the password"
        : authority.slice(authority.lastIndexOf("@") + 1).includes(",")
          ? "must name one host: for several servers, name an address that always leads to the primary"
          : URL.canParse(parsable)
            ? undefined
            : "must have the form postgresql://user:password@host:5432/database; " +
              "write special characters of the password as in a URL, / as %2F for instance";
  if (fault !== undefined) throw new RangeError(fault);
  return given;
}

/**
 * Inserts a password, which is given without escapes, into the URL.
 * @returns undefined if the URL already has a password, or has no user
 */
export function withPassword(url: string, password: string): string | undefined {
  const [, start, user, rest] = /^([a-z]+:\/\/)([^:@/?]+)(@.*)$/.exec(url) ?? [];
  return user === undefined ? undefined : `${start}${user}:${encodeURIComponent(password)}${rest}`;
}
