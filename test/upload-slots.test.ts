import { describe, expect, it } from "@jest/globals";
import { UploadSlots, type Uploader } from "../src/upload/upload-slots.ts";

const ann = 1;
const bob = 2;
const quick = { isSlow: false, bytesPerSecond: 1e6, end() {} };

/** An uploader at an address of their own. */
function by(userId: number, client: Uploader["client"] = quick, address = `192.0.2.${userId}`): Uploader {
  return { userId, address, client };
}
const never = new AbortController().signal;

describe("UploadSlots", () => {
  it("admits waiting uploads in order", async () => {
    const slots = new UploadSlots({ maxUploads: 1, maxUploadsPerUser: 1, queueTimeoutSeconds: 60 });
    const admitted: number[] = [];
    const first = await slots.acquire(by(0), never);
    const others = [1, 2, 3].map(async (user) => {
      using _slot = await slots.acquire(by(user), never);
      admitted.push(user);
    });
    expect(admitted).toEqual([]);
    first[Symbol.dispose]();
    await Promise.all(others);
    expect(admitted).toEqual([1, 2, 3]);
  });

  it("lets users take turns, however many each has", async () => {
    const slots = new UploadSlots({ maxUploads: 1, maxUploadsPerUser: 1, queueTimeoutSeconds: 60 });
    const first = await slots.acquire(by(ann), never);
    const admitted: number[] = [];
    const others = [ann, ann, ann, bob, bob, 3].map(async (user) => {
      using _slot = await slots.acquire(by(user), never);
      admitted.push(user);
    });
    first[Symbol.dispose]();
    await Promise.all(others);
    expect(admitted).toEqual([ann, bob, 3, ann, bob, ann]);
  });

  it("lets others pass a user who has the maximum", async () => {
    const slots = new UploadSlots({ maxUploads: 3, maxUploadsPerUser: 1, queueTimeoutSeconds: 60 });
    const first = await slots.acquire(by(ann), never);
    const second = slots.acquire(by(ann), never);
    using bobs = await slots.acquire(by(bob), never);
    expect(bobs).toBeDefined();
    first[Symbol.dispose]();
    (await second)[Symbol.dispose]();
  });

  it("refuses with BUSY when an upload has waited too long, and leaves no trace", async () => {
    const slots = new UploadSlots({ maxUploads: 1, maxUploadsPerUser: 1, queueTimeoutSeconds: 0 });
    const first = await slots.acquire(by(ann), never);
    await expect(slots.acquire(by(bob), never)).rejects.toMatchObject({
      code: "BUSY",
      status: 503,
      details: { retryAfterSeconds: expect.any(Number) },
    });
    first[Symbol.dispose]();
    (await slots.acquire(by(bob), never))[Symbol.dispose]();
  });

  it("gives the place of an upload that leaves while waiting to the next one", async () => {
    const slots = new UploadSlots({ maxUploads: 1, maxUploadsPerUser: 1, queueTimeoutSeconds: 60 });
    const first = await slots.acquire(by(ann), never);
    const leaving = new AbortController();
    const gone = slots.acquire(by(bob), leaving.signal);
    const next = slots.acquire(by(3), never);
    leaving.abort(new Error("gone"));
    await expect(gone).rejects.toThrow("gone");
    first[Symbol.dispose]();
    (await next)[Symbol.dispose]();
    (await slots.acquire(by(bob), never))[Symbol.dispose]();
  });

  it("refuses at once if the queue is full", async () => {
    const slots = new UploadSlots({ maxUploads: 1, maxUploadsPerUser: 1, queueTimeoutSeconds: 60 });
    const stop = new AbortController();
    using _slot = await slots.acquire(by(ann), never);
    const waiting = Array.from({ length: 100 }, async () => await slots.acquire(by(ann), stop.signal).catch(() => {}));
    expect(() => slots.refuseWhenFull(ann)).toThrow(expect.objectContaining({ code: "BUSY" }));
    expect(() => slots.refuseWhenFull(bob)).not.toThrow();
    stop.abort();
    await Promise.all(waiting);
    expect(() => slots.refuseWhenFull(ann)).not.toThrow();
  });

  it("counts those that are suspended apart, up to a bound of their own", async () => {
    const slots = new UploadSlots({ maxUploads: 2, maxUploadsPerUser: 1, queueTimeoutSeconds: 0 });
    const suspended = [];
    const suspensions: Disposable[] = [];
    for (const user of [ann, bob, ann, bob, ann, bob, ann, bob]) {
      const slot = await slots.acquire(by(user), never);
      suspensions.push(slot.suspend(), slot.suspend());
      suspended.push(slot);
    }
    await expect(slots.acquire(by(ann), never)).rejects.toMatchObject({ code: "BUSY" });
    const others = [await slots.acquire(by(3), never), await slots.acquire(by(4), never)];
    for (const suspension of suspensions.slice(0, 2)) suspension[Symbol.dispose]();
    others[0]![Symbol.dispose]();
    await expect(slots.acquire(by(5), never)).rejects.toMatchObject({ code: "BUSY" });
    for (const slot of [...suspended, ...others]) slot[Symbol.dispose]();
    using _again = await slots.acquire(by(ann), never);
    suspensions[0]![Symbol.dispose]();
    await expect(slots.acquire(by(ann), never)).rejects.toMatchObject({ code: "BUSY" });
  });

  it("ends the slowest when too many are running, in all or from one address, and admits a waiting one", async () => {
    const slots = new UploadSlots({ maxUploads: 1, maxUploadsPerUser: 1, queueTimeoutSeconds: 60 });
    const ended: number[] = [];
    const begin = async (userId: number, bytesPerSecond: number, address?: string) => {
      const end = () => {
        ended.push(userId);
        slot[Symbol.dispose]();
      };
      const slot = await slots.acquire(by(userId, { isSlow: bytesPerSecond > 0, bytesPerSecond, end }, address), never);
      slot.suspend();
      return slot;
    };
    for (const [userId, bytesPerSecond] of [50, 20, 30, 10].entries()) await begin(userId, bytesPerSecond);
    for (const [i, bytesPerSecond] of [5, 3, 0, 4].entries()) await begin(10 + i, bytesPerSecond, "192.0.2.99");
    expect(ended).toEqual([]);
    await begin(20, 100); // too many in all
    expect(ended).toEqual([11]);
    await begin(21, 90, "192.0.2.99"); // too many in all again
    expect(ended).toEqual([11, 13]);
    await begin(22, 80, "192.0.2.99");
    expect(ended).toEqual([11, 13, 10]);
    await begin(23, 70, "192.0.2.99");
    expect(ended).toEqual([11, 13, 10, 3]);
    await begin(24, 60, "192.0.2.99"); // too many from this address: uploads from other addresses are not ended
    expect(ended).toEqual([11, 13, 10, 3, 23]);
  });

  it("admits a waiting upload when another's client turns out to be slow", async () => {
    const slots = new UploadSlots({ maxUploads: 1, maxUploadsPerUser: 1, queueTimeoutSeconds: 60 });
    using slow = await slots.acquire(by(ann), never);
    const waiting = slots.acquire(by(bob), never);
    using _suspension = slow.suspend();
    using admitted = await waiting;
    expect(admitted).toBeDefined();
  });
});
