const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const time = String.raw`(?<hour>\d{2}):(?<minute>\d{2}):(?<second>\d{2})`;
const month = `(?<month>${months.join("|")})`;
/** IMF-fixdate, the obsolete RFC 850 form and that of asctime. */
const forms = [
  String.raw`(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?<day>\d{2}) ${month} (?<year>\d{4}) ${time} GMT`,
  String.raw`(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?<day>\d{2})-${month}-(?<year>\d{2}) ${time} GMT`,
  String.raw`(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) ${month} (?<day>[ \d]\d) ${time} (?<year>\d{4})`,
].map((form) => new RegExp(`^${form}$`));

/**
 * Parses an HTTP date to milliseconds since 1970; undefined if it is not valid (RFC 9110 section 5.6.7). `Date.parse`
 * accepts many texts that are not HTTP dates.
 */
export function parseHttpDate(field: string): number | undefined {
  const groups = forms.map((form) => form.exec(field)?.groups).find((found) => found !== undefined);
  if (groups === undefined) return undefined;
  const part = (name: string): number => Number(groups[name]);
  const [hour, minute, second, day] = [part("hour"), part("minute"), part("second"), part("day")];
  if (hour > 23 || minute > 59 || second > 60) return undefined;
  const year = groups["year"]?.length === 2 ? fullYear(part("year")) : part("year");
  const midnight = new Date(0);
  midnight.setUTCFullYear(year, months.indexOf(groups["month"] ?? ""), day);
  if (midnight.getUTCDate() !== day) return undefined;
  return midnight.getTime() + ((hour * 60 + minute) * 60 + second) * 1000;
}

/**
 * Expands a two-digit year. If it would be more than 50 years in the future, it is the most recent past year with these
 * digits.
 */
function fullYear(twoDigits: number): number {
  const thisYear = new Date().getUTCFullYear();
  const year = thisYear - (thisYear % 100) + twoDigits;
  return year > thisYear + 50 ? year - 100 : year;
}
