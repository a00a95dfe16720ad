import { expect, it } from "@jest/globals";
import { batchLoader } from "../src/graphql/batch-loader.ts";
import type { RequestContext } from "../src/graphql/request-context.ts";

const aRequest = () => ({}) as RequestContext;

it("loads what one request asks for in one batch, and each request separately", async () => {
  const asked: string[][] = [];
  const load = batchLoader(async (_context, keys: readonly string[]) => {
    asked.push([...keys]);
    return new Map(keys.filter((key) => key !== "none").map((key) => [key, key.toUpperCase()]));
  });
  const [one, other] = [aRequest(), aRequest()];
  const values = await Promise.all([
    load(one, "a"),
    Promise.resolve().then(async () => await load(one, "b")),
    load(one, "a"),
    load(one, "none"),
    load(other, "c"),
  ]);
  expect(values).toEqual(["A", "B", "A", undefined, "C"]);
  expect(asked).toEqual([["a", "none", "b"], ["c"]]);
});

it("loads again what is asked for later, and after an error", async () => {
  let calls = 0;
  const load = batchLoader(async (_context, keys: readonly string[]) => {
    calls++;
    if (calls === 1) throw new Error("away");
    return new Map(keys.map((key) => [key, calls]));
  });
  const request = aRequest();
  await expect(Promise.all([load(request, "a"), load(request, "b")])).rejects.toThrow("away");
  expect(await load(request, "a")).toBe(2);
  expect(await load(request, "a")).toBe(3);
});
