/** One setting: what its variable may hold, and what the documents say of it. {@link settings} gives it its name. */
export interface Setting<T> {
  /**
   * Turns the variable's text, never empty, into the value.
   * @throws {RangeError} whose message goes on behind the name: "must be ..."
   */
  readonly parse: (given: string) => T;
  /** The value of an unset or empty variable. */
  readonly fallback: T;
  /** The same in production. */
  readonly productionFallback: T;
  /** The fallback in the documents' words; undefined: as its value. */
  readonly fallbackText: string | undefined;
  /** What the variable may hold, in Markdown. */
  readonly values: string;
  /** In Markdown, as sentences. */
  readonly meaning: string;
  /** Whether a variable of this name with `_FILE` behind it may name a file that holds the value. */
  readonly isSecret: boolean;
}

/** What every row of the table says. */
interface Row<T> {
  readonly default: T;
  /** Default in production, if it is another one. */
  readonly inProduction?: T;
  /** The default in words, where the value itself would say nothing to the reader. */
  readonly defaultText?: string;
  readonly meaning: string;
}

/** The row of a setting that is no plain number, word or flag. */
interface ParsedRow<T> extends Row<T> {
  readonly values: string;
  readonly isSecret?: boolean;
}

/** A text that `parse` turns into a value. */
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

/** A text as it is; undefined unless it is set or has a default. */
export function text<T extends string | undefined>(row: ParsedRow<T | string>): Setting<T | string> {
  return parsed<T | string>((given) => given, row);
}

/** A number without fraction or sign. */
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
