import { expect, it } from "@jest/globals";
import { validate, version } from "uuid";
import { linkParameters, parseRecordAddress } from "../src/record/parse-link.ts";
import { newRecordId } from "../src/record/record-id.ts";

const timeOf = (id: string): number => Number.parseInt(id.replaceAll("-", "").slice(0, 12), 16);

it("makes ids that sort by time, so that new rows lie side by side in an index", () => {
  const before = Date.now();
  const ids = Array.from({ length: 2000 }, newRecordId);
  expect(ids.every((id) => validate(id) && version(id) === 7)).toBe(true);
  const times = ids.map(timeOf);
  expect(times).toEqual(times.toSorted((a, b) => a - b));
  expect(times[0]).toBeGreaterThanOrEqual(before);
  expect(times.at(-1)).toBeLessThanOrEqual(Date.now());
});

it("makes ids of one millisecond that tell nothing about each other", () => {
  const byTime = Map.groupBy(Array.from({ length: 5000 }, newRecordId), timeOf);
  const tails = [...byTime.values()].flatMap((ids) => ids.map((id) => BigInt(`0x${id.replaceAll("-", "").slice(13)}`)));
  // The library's own ids of a millisecond differ by small numbers in these first bits.
  const heads = tails.map((tail) => Number(tail >> 52n));
  const steps = heads.slice(1).map((head, i) => Math.abs(head - heads[i]!));
  expect(steps.filter((step) => step <= 1).length).toBeLessThan(steps.length / 50);
  expect(new Set(tails).size).toBe(5000);
});

it("makes ids that links accept", () => {
  const id = newRecordId();
  expect(parseRecordAddress(linkParameters(`/record?id=${id}&user=1`))).toMatchObject({ recordId: id });
});
