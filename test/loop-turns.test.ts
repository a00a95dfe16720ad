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
});
