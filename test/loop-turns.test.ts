import { describe, expect, it } from "@jest/globals";
import { setImmediate } from "node:timers/promises";
import { LoopTurns } from "../src/queue/loop-turns.ts";

/** Works until nothing more may begin in this turn of the event loop. */
function useUp(turns: LoopTurns<string>): void {
  while (turns.isFree);
}

describe("work that is spread over turns of the event loop", () => {
  it("begins at once while there is time, and later when the time is used up", async () => {
    const turns = new LoopTurns<string>();
    expect(turns.isFree).toBe(true);
    useUp(turns);
    await setImmediate();
    expect(turns.isFree).toBe(true);
  });

  it("lets owners take turns", async () => {
    const turns = new LoopTurns<string>();
    const begun: string[] = [];
    useUp(turns);
    await Promise.all(
      ["a1", "a2", "a3", "b1"].map(async (work) => {
        await new Promise<void>((begin) => turns.wait(work[0]!, begin));
        begun.push(work);
      }),
    );
    expect(begun).toEqual(["a1", "b1", "a2", "a3"]);
  });

  it("lets the event loop go on between pieces that take long, even if they are asynchronous", async () => {
    const turns = new LoopTurns<string>();
    const happened: string[] = [];
    useUp(turns);
    const work = ["work", "more work"].map(async (piece) => {
      await new Promise<void>((begin) => turns.wait("a", begin));
      await Promise.resolve();
      const endsAt = performance.now() + 10;
      while (performance.now() < endsAt);
      happened.push(piece);
      void setImmediate().then(() => happened.push("the event loop goes on"));
    });
    await Promise.all(work);
    expect(happened).toEqual(["work", "the event loop goes on", "more work"]);
  });

  it("waits while connections arrive, and then goes on", async () => {
    const turns = new LoopTurns<string>();
    const begun: string[] = [];
    turns.arrive();
    expect(turns.isFree).toBe(false);
    turns.wait("a", () => begun.push("a"));
    turns.wait("b", () => begun.push("b"));
    await setImmediate();
    turns.arrive();
    await setImmediate();
    // One may have begun, if these turns took milliseconds.
    expect(begun.length).toBeLessThan(2);
    await setImmediate();
    expect(begun).toEqual(["a", "b"]);
    expect(turns.isFree).toBe(true);
  });

  it("begins piece by piece while connections do not stop arriving", async () => {
    const turns = new LoopTurns<string>();
    const begun: string[] = [];
    for (const work of ["a1", "a2", "b1"]) turns.wait(work[0]!, () => begun.push(work));
    while (begun.length < 3) {
      const before = begun.length;
      turns.arrive();
      await setImmediate();
      expect(begun.length - before).toBeLessThan(2);
    }
    expect(begun).toEqual(["a1", "b1", "a2"]);
  });

  it("waits for no arrivals when too much waits already", async () => {
    const turns = new LoopTurns<number>();
    let begun = 0;
    turns.arrive();
    for (let owner = 0; owner < 1002; owner++) turns.wait(owner, () => begun++);
    await setImmediate();
    expect(begun).toBeGreaterThan(1);
  });
});
