import { expect, it } from "@jest/globals";
import { parseByteRange } from "../src/http/byte-range.ts";

const sizeBytes = 10_000;

it.each([
  ["bytes=0-0", 0, 0],
  ["bytes=0-1", 0, 1],
  ["bytes=0-", 0, 9_999],
  ["bytes=9999-", 9_999, 9_999],
  ["bytes=9999-9999", 9_999, 9_999],
  ["bytes=5-10000", 5, 9_999],
  ["bytes=5-99999999999999999999999", 5, 9_999],
  [`bytes=5-${"9".repeat(400)}`, 5, 9_999],
  ["bytes=-1", 9_999, 9_999],
  ["bytes=-10000", 0, 9_999],
  ["bytes=-10001", 0, 9_999],
  ["bytes=-99999999999999999999999", 0, 9_999],
  ["BYTES=3-4", 3, 4],
  ["bytes=007-8", 7, 8],
  ["bytes=,3-4", 3, 4],
  ["bytes=3-4 ,\t, ", 3, 4],
  ["bytes=3-4,20000-", 3, 4],
  ["bytes=-0,3-4", 3, 4],
])("reads %s as one range", (field, start, end) => {
  expect(parseByteRange(field, sizeBytes)).toEqual([{ start, end }]);
});

it.each(["bytes=10000-", "bytes=10000-10000", "bytes=99999999999999999999999-", "bytes=-0", "bytes=-0,10000-"])(
  "finds nothing of the file in %s",
  (field) => {
    expect(parseByteRange(field, sizeBytes)).toEqual([]);
  },
);

it.each([
  undefined,
  "",
  "bytes",
  "bytes=",
  "bytes=,",
  "bytes=-",
  "bytes=5-4",
  "bytes=0-1,5-4",
  "bytes=0-1,x",
  "bytes=a-b",
  "bytes=0x1-2",
  "bytes=1.5-2",
  "bytes=+1-2",
  "bytes=1e1-20",
  "bytes=--1",
  "bytes=0-1-2",
  "bytes=0 - 1",
  "bytes =0-1",
  "bytes:0-1",
  "bytes 0-1",
  "seconds=0-1",
  "bytes=0-1;2-3",
  "bytes=٣-٤",
  "bytes=0-1, bytes=2-3",
  `bytes=${Array.from({ length: 33 }, (_, index) => `${index * 300}-${index * 300}`).join()}`,
])("does without the range %p", (field) => {
  expect(parseByteRange(field, sizeBytes)).toBeUndefined();
});

it("keeps the order of several ranges", () => {
  expect(parseByteRange("bytes=5000-5001, 0-9, -10", sizeBytes)).toEqual([
    { start: 5_000, end: 5_001 },
    { start: 0, end: 9 },
    { start: 9_990, end: 9_999 },
  ]);
});

it("joins ranges that overlap, touch, or lie closer than the headers of a part are long", () => {
  const touching = "bytes=0-99,50-149,150-159,4000-4100,200-299,-1,9999-,9000-";
  expect(parseByteRange(touching, sizeBytes)).toEqual([
    { start: 0, end: 299 },
    { start: 4_000, end: 4_100 },
    { start: 9_000, end: 9_999 },
  ]);
  expect(parseByteRange(`bytes=${Array.from({ length: 32 }, () => "0-").join()}`, sizeBytes)).toEqual([
    { start: 0, end: 9_999 },
  ]);
});

it("finds no range in an empty file", () => {
  expect(parseByteRange("bytes=0-", 0)).toEqual([]);
  expect(parseByteRange("bytes=-5", 0)).toEqual([]);
});
