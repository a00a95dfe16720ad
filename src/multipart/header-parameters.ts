/** A parameter of a header field. */
export interface HeaderParameter {
  /** In lower case. */
  readonly name: string;
  /** Without quotes and escapes. */
  readonly value: string;
}

/** A header field such as `form-data; name="0"`. */
export interface ParameterizedField {
  /** The text before the parameters, in lower case. May be empty. */
  readonly value: string;
  /** In the order in which they were sent. Names may repeat. */
  readonly parameters: readonly HeaderParameter[];
}

const separators = /[\s;]*/y;
const parameterName = /([^\s;="]+)\s*=\s*/y;

/** What follows the closing quote of a file name. Any other quote is part of the name. */
const afterQuotes = /\s*(?:;\s*(?:[^\s;="]+\s*(?:[=;]|$)|;|$)|$)/y;

/** What follows a file name without quotes. The name may contain `; b=c`, so only a known parameter ends it. */
const afterFileName = /;\s*(?:(?:(?:file)?name(?:\*\d*\*?)?|size|(?:creation|modification|read)-date)\s*=|;|$)/iy;

/**
 * Reads a header field with parameters (RFC 9110 section 5.6.6) as clients write it: with spaces around `=` and `;`,
 * with an extra `;`, with values that lack necessary quotes, and with unescaped quotes and backslashes inside quotes.
 * Anything that is not a parameter is ignored. The time is proportional to the field's length.
 */
export function readParameters(field: string): ParameterizedField {
  const end = field.search(/[;=]/);
  const hasValue = field[end] !== "=";
  const value = hasValue ? field.slice(0, end < 0 ? field.length : end) : "";
  const parameters: HeaderParameter[] = [];
  for (let at = hasValue ? value.length : 0; at < field.length;) {
    at = endOfMatch(separators, field, at) ?? at;
    parameterName.lastIndex = at;
    const name = parameterName.exec(field)?.[1]?.toLowerCase();
    if (name === undefined) {
      const semicolon = field.indexOf(";", at);
      at = semicolon < 0 ? field.length : semicolon;
      continue;
    }
    const start = parameterName.lastIndex;
    const isFileName = name.startsWith("filename");
    const quoted = field[start] === '"' ? endOfQuoted(field, start + 1, isFileName) : undefined;
    at = quoted === undefined ? endOfPlain(field, start, isFileName) : quoted + 1;
    parameters.push({
      name,
      value: quoted === undefined ? field.slice(start, at).trim() : unescaped(field.slice(start + 1, quoted)),
    });
  }
  return { value: value.trim().toLowerCase(), parameters };
}

/** The first parameter with this name. */
export function parameterOf(field: ParameterizedField, name: string): string | undefined {
  return field.parameters.find((parameter) => parameter.name === name)?.value;
}

function endOfPlain(field: string, start: number, isFileName: boolean): number {
  for (let at = field.indexOf(";", start); at >= 0; at = field.indexOf(";", at + 1)) {
    if (!isFileName || endOfMatch(afterFileName, field, at) !== undefined) return at;
  }
  return field.length;
}

/** Offset of the closing quote, which is not escaped. */
function endOfQuoted(field: string, start: number, isFileName: boolean): number | undefined {
  for (let at = start; at < field.length; at++) {
    if (field[at] === "\\" && (field[at + 1] === '"' || field[at + 1] === "\\")) at++;
    else if (field[at] === '"' && (!isFileName || endOfMatch(afterQuotes, field, at + 1) !== undefined)) return at;
  }
  const last = field.lastIndexOf('"');
  return last >= start ? last : undefined;
}

/**
 * Removes escapes of quotes and backslashes only, because Windows paths such as `C:\takes\take.wav` are sent unescaped.
 */
function unescaped(quoted: string): string {
  return quoted.replaceAll(/\\(["\\])/g, "$1");
}

function endOfMatch(pattern: RegExp, text: string, at: number): number | undefined {
  pattern.lastIndex = at;
  return pattern.test(text) ? pattern.lastIndex : undefined;
}
