/** Bytes `start` to `end` of a file, both included, counted from 0 (RFC 9110 section 14.1.2). */
export interface ByteInterval {
  readonly start: number;
  readonly end: number;
}

/**
 * Maximum number of ranges, more than a player or a resuming client needs. Each one costs a part of the response and a
 * query.
 */
const maxRanges = 32;
/**
 * Approximate size of the delimiter and the headers of one part. Sending a smaller gap is cheaper than another part.
 */
const partOverheadBytes = 160;

/**
 * Reads a `Range` field for a file of `sizeBytes` (RFC 9110 section 14.2). Undefined means that the whole file must be
 * sent: the field is missing, malformed, uses a unit other than bytes, or has too many ranges. An empty list means that
 * no range lies inside the file (416). Ranges that overlap or nearly touch are joined; the others keep their order.
 */
export function parseByteRange(field: string | undefined, sizeBytes: number): ByteInterval[] | undefined {
  const set = /^bytes=(.*)$/i.exec(field ?? "")?.[1];
  if (set === undefined) return undefined;
  // Empty list elements are allowed and ignored (RFC 9110 section 5.6.1.2).
  const specs = set.split(",").map((spec) => spec.trim());
  const ranges = specs.filter((spec) => spec !== "").map((spec) => parseSpec(spec, sizeBytes));
  if (ranges.length === 0 || ranges.length > maxRanges) return undefined;
  const intervals: ByteInterval[] = [];
  for (const range of ranges) {
    if (range === undefined) return undefined;
    if (range.start <= range.end) intervals.push(range);
  }
  return joinNearby(intervals);
}

/** One range of the set. `start` is greater than `end` if it lies outside the file. Undefined if it is malformed. */
function parseSpec(spec: string, sizeBytes: number): ByteInterval | undefined {
  const [, first, last] = /^(\d*)-(\d*)$/.exec(spec) ?? [];
  if (first === undefined || last === undefined || (first === "" && last === "")) return undefined;
  if (first === "") return { start: Math.max(0, sizeBytes - Number(last)), end: sizeBytes - 1 };
  if (last !== "" && Number(last) < Number(first)) return undefined;
  return { start: Number(first), end: Math.min(last === "" ? Infinity : Number(last), sizeBytes - 1) };
}

/**
 * RFC 9110 section 15.3.7.2 allows a server to join ranges. Otherwise a request could ask for the file many times over.
 */
function joinNearby(intervals: readonly ByteInterval[]): ByteInterval[] {
  const joined: { start: number; end: number; order: number }[] = [];
  const numbered = intervals.map(({ start, end }, order) => ({ start, end, order }));
  for (const interval of numbered.toSorted((one, other) => one.start - other.start)) {
    const previous = joined.at(-1);
    if (previous !== undefined && interval.start <= previous.end + 1 + partOverheadBytes) {
      previous.end = Math.max(previous.end, interval.end);
      previous.order = Math.min(previous.order, interval.order);
    } else {
      joined.push(interval);
    }
  }
  return joined.toSorted((one, other) => one.order - other.order).map(({ start, end }) => ({ start, end }));
}
