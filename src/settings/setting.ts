/** A setting: the values of its variable, and its documentation. Its name is its field in {@link settings}. */
export interface Setting<T> {
  /**
   * Parses the text of the variable, which is never empty.
   * @throws {RangeError} whose message continues after the name: "must be ..."
   */
  readonly parse: (given: string) => T;
  /** The default, for an unset or empty variable. */
  readonly fallback: T;
  /** The default in production. */
  readonly productionFallback: T;
  /** The default in words for the documents; undefined to print the value. */
  readonly fallbackText: string | undefined;
  /** The allowed values, in Markdown. */
  readonly values: string;
  /** The meaning, as sentences in Markdown. */
  readonly meaning: string;
  /** Whether a variable with this name and the suffix `_FILE` may name a file with the value. */
  readonly isSecret: boolean;
}

/** The properties of every row of the table. */
interface Row<T> {
  readonly default: T;
  /** The default in production, if it differs. */
  readonly inProduction?: T;
  /** The default in words, if the value itself would not be informative. */
  readonly defaultText?: string;
  readonly meaning: string;
}

/** The row of a setting that is not a plain number, word or flag. */
interface ParsedRow<T> extends Row<T> {
  readonly values: string;
  readonly isSecret?: boolean;
}

/** A setting that `parse` reads. */
export function parsed<T>(parse: (given: string) => T, row: ParsedRow<T>): Setting<T> {
  return {
    parse,
    fallback: row.default,
    productionFallback: row.inProduction ?? row.default,
    fallbackText: row.defaultText,
    values: row.values,
    meaning: row.meaning,
    isSecret: row.isSecret ?? false,
  };
}

/** A text; undefined if it is not set and has no default. */
export function text<T extends string | undefined>(row: ParsedRow<T | string>): Setting<T | string> {
  return parsed<T | string>((given) => given, row);
}

/** A non-negative integer. */
export function integer<T extends number | undefined>(
  row: Row<T | number> & { readonly from: number; readonly to: number; readonly unit?: string },
): Setting<T | number> {
  const { from, to, unit } = row;
  const parse = (given: string): number => {
    const value = /^\d+$/.test(given) ? Number(given) : NaN;
    if (value >= from && value <= to) return value;
    throw new RangeError(`must be an integer from ${from} to ${to}`);
  };
  return parsed<T | number>(parse, { ...row, values: `${from} to ${to}${unit === undefined ? "" : ` ${unit}`}` });
}

/** One of a few words. */
export function oneOf<T extends string>(words: readonly T[], row: Row<NoInfer<T>>): Setting<T> {
  const parse = (given: string): T => {
    const value = words.find((word) => word === given);
    if (value !== undefined) return value;
    throw new RangeError(`must be one of ${words.join(", ")}`);
  };
  return parsed(parse, { ...row, values: words.map((word) => `\`${word}\``).join(", ") });
}

/** `true` or `false`. */
export function flag(row: Row<boolean>): Setting<boolean> {
  const word = oneOf(["true", "false"], { default: "true", meaning: "" });
  return parsed((given) => word.parse(given) === "true", { ...row, values: word.values });
}
