import { describe, expect, it, jest } from "@jest/globals";
import { FairSemaphore, type SemaphoreLimits } from "../src/queue/fair-semaphore.ts";

const never = new AbortController().signal;

function semaphoreOf(limits: Partial<SemaphoreLimits>): FairSemaphore<string> {
  return new FairSemaphore({ permits: 1, timeoutSeconds: 60, busy: "All are busy", ...limits });
}

describe("a fair semaphore", () => {
  it("passes an owner who has as many as one may have, and comes back to them", async () => {
    const semaphore = semaphoreOf({ permits: 3, permitsPerOwner: 1 });
    const first = await semaphore.acquire({ owner: "Ann" }, never);
    const second = semaphore.acquire({ owner: "Ann" }, never);
    const bobs = await semaphore.acquire({ owner: "Bob" }, never);
    expect([semaphore.inUse, semaphore.waiting]).toEqual([2, 1]);
    first[Symbol.dispose]();
    for (const permit of [await second, bobs]) permit[Symbol.dispose]();
    expect([semaphore.inUse, semaphore.waiting]).toEqual([0, 0]);
  });

  it("grants first permits before others, three in a row", async () => {
    const semaphore = semaphoreOf({});
    const blocking = await semaphore.acquire({ owner: "Ann" }, never);
    const order: string[] = [];
    const waiting = ["again", "again", "first", "first", "first", "first"].map(async (kind) => {
      using _permit = await semaphore.acquire({ owner: "Bob", again: kind === "again" }, never);
      order.push(kind);
    });
    expect([semaphore.waiting, semaphore.waitingUrgently]).toEqual([6, 4]);
    blocking[Symbol.dispose]();
    await Promise.all(waiting);
    expect(order).toEqual(["first", "first", "first", "again", "first", "again"]);
  });

  it("grants those that are almost done before first ones, and lets others through all the same", async () => {
    const semaphore = semaphoreOf({});
    const blocking = await semaphore.acquire({ owner: "Ann" }, never);
    const order: string[] = [];
    const waiting = ["again", "again", "first", "first", "done", "done"].map(async (kind) => {
      const request = { owner: "Bob", again: kind !== "first", isAlmostDone: () => kind === "done" };
      using _permit = await semaphore.acquire(request, never);
      order.push(kind);
    });
    expect([semaphore.waiting, semaphore.waitingUrgently]).toEqual([6, 4]);
    blocking[Symbol.dispose]();
    await Promise.all(waiting);
    expect(order).toEqual(["done", "done", "first", "again", "first", "again"]);
  });

  it("lends a suspended permit until the last suspension is over, and takes it back even if all are in use", async () => {
    const semaphore = semaphoreOf({});
    const first = await semaphore.acquire({ owner: "Ann" }, never);
    const waiting = semaphore.acquire({ owner: "Bob" }, never);
    const suspensions = [first.suspend(), first.suspend()];
    using _second = await waiting;
    suspensions[0]![Symbol.dispose]();
    suspensions[0]![Symbol.dispose]();
    expect(semaphore.inUse).toBe(1);
    suspensions[1]![Symbol.dispose]();
    expect(semaphore.inUse).toBe(2);
    const last = first.suspend();
    first[Symbol.dispose]();
    last[Symbol.dispose]();
    expect(semaphore.inUse).toBe(1);
  });

  it("takes what is needed besides with the permit, and lets others pass while that is not to be had", async () => {
    const semaphore = semaphoreOf({ permits: 2 });
    const held = new Set<string>();
    const request = (what: string) => ({
      owner: what,
      takeBesides: () => {
        if (held.has(what)) return undefined;
        held.add(what);
        return { [Symbol.dispose]: () => void held.delete(what) };
      },
    });
    const first = await semaphore.acquire(request("A"), never);
    const second = semaphore.acquire(request("A"), never);
    const other = await semaphore.acquire(request("B"), never);
    expect([[...held], semaphore.waiting]).toEqual([["A", "B"], 1]);
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    for (const permit of [await second, other]) permit[Symbol.dispose]();
    expect([[...held], semaphore.inUse]).toEqual([[], 0]);
  });

  it("refuses who waits while nobody's turn comes, and not who waits while others' turns come", async () => {
    jest.useFakeTimers();
    try {
      const semaphore = semaphoreOf({ timeoutSeconds: 10 });
      let permit = await semaphore.acquire({ owner: "Ann" }, never);
      const granted = [1, 2, 3].map(async () => await semaphore.acquire({ owner: "Bob" }, never));
      const refused = semaphore.acquire({ owner: "Bob" }, never).catch((error: unknown) => error);
      const patient = semaphore.acquire({ owner: "Zoe", again: true }, never);
      for (const next of granted) {
        jest.advanceTimersByTime(6000);
        permit[Symbol.dispose]();
        permit = await next;
      }
      jest.advanceTimersByTime(9999);
      expect(semaphore.waiting).toBe(2);
      jest.advanceTimersByTime(1);
      expect(await refused).toMatchObject({ code: "BUSY", status: 503 });
      permit[Symbol.dispose]();
      (await patient)[Symbol.dispose]();
    } finally {
      jest.useRealTimers();
    }
  });

  it("refuses at once what would wait in a queue too long, of one owner or in all", async () => {
    const semaphore = semaphoreOf({ maxWaiting: 3, maxWaitingPerOwner: 2 });
    const stop = new AbortController();
    const wait = async (owner: string) => await semaphore.acquire({ owner }, stop.signal);
    const refusal = { code: "BUSY", message: expect.stringContaining("All are busy; try again in") };
    const permit = await wait("Ann");
    const waiting = Promise.allSettled([wait("Ann"), wait("Ann")]);
    await expect(wait("Ann")).rejects.toMatchObject(refusal);
    const more = Promise.allSettled([wait("Bob")]);
    await expect(wait("Eve")).rejects.toMatchObject(refusal);
    stop.abort(new Error("gone"));
    expect([...(await waiting), ...(await more)]).toMatchObject(
      ["Ann", "Ann", "Bob"].map(() => ({ reason: Error("gone") })),
    );
    expect(semaphore.waiting).toBe(0);
    permit[Symbol.dispose]();
    expect(semaphore.inUse).toBe(0);
  });

  it("refuses everybody who waits and whoever comes once it is disposed of", async () => {
    const semaphore = semaphoreOf({});
    const permit = await semaphore.acquire({ owner: "Ann" }, never);
    const waiting = [1, 2].map(async () => await semaphore.acquire({ owner: "Bob" }, never));
    const outcomes = Promise.allSettled(waiting);
    semaphore[Symbol.dispose]();
    const refused = { status: "rejected", reason: { code: "SHUTTING_DOWN" } };
    expect(await outcomes).toMatchObject([refused, refused]);
    permit[Symbol.dispose]();
    expect(semaphore.tryAcquire({ owner: "Ann" })).toBeUndefined();
    await expect(semaphore.acquire({ owner: "Ann" }, never)).rejects.toMatchObject({ code: "SHUTTING_DOWN" });
  });
});
