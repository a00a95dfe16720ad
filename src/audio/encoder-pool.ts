import { availableParallelism } from "node:os";
import { shuttingDown, tryAgainLater, type ServiceError } from "../errors.ts";
import { MemoryBlocks } from "../memory-blocks.ts";
import type { ChildLimits, Ffmpeg, FfmpegProcess } from "./ffmpeg.ts";
import { startFfmpeg } from "./ffmpeg.ts";

/** What an {@link EncoderPool} needs. */
export interface EncoderPoolOptions {
  readonly ffmpeg: Ffmpeg;
  /** Encoder processes at once, for the whole service; by default one for each core. */
  readonly lanes?: number;
  /** How long a process may do nothing although there is something to do; by default 30 s. */
  readonly stallSeconds?: number;
  /** How long an upload may wait for a place; by default 30 s. */
  readonly queueTimeoutSeconds?: number;
  /** Of each process; by default 2 GiB of address space and four hours of CPU time. */
  readonly limits?: ChildLimits;
}

/** The right to run one encoder process at a time; dispose of it when that process is gone. */
export interface EncoderPlace extends Disposable {
  readonly pool: EncoderPool;
  /** The process has nothing to do, because its client is slow: somebody else may run one meanwhile. */
  rest(): void;
  /** There is something to do again. It is done at once, even if that makes one process too many for a while. */
  wake(): void;
}

/** An upload that runs on more places than the one it is entitled to. */
export interface Borrower {
  /** Somebody waits: give any one of your places back as soon as what it was fed is encoded. */
  giveBackOne(): void;
}

interface Waiter {
  admit(place: EncoderPlace): void;
  refuse(reason: unknown): void;
}

/** Places that one borrower has, and how many of them it was told to give back. */
interface Loan {
  lent: number;
  calledBack: number;
}

/**
 * All encoder processes of the service. Each upload is entitled to one place and waits for it in turn; places that
 * nobody waits for are lent to uploads that run already, and called back as soon as somebody does.
 */
export class EncoderPool implements AsyncDisposable {
  /** Encoder processes at once. */
  readonly lanes: number;
  /** How long a process may do nothing although there is something to do. */
  readonly stallSeconds: number;
  /** Memory for the PCM that waits for the processes. */
  readonly blocks = new MemoryBlocks(256 * 1024, 64);
  readonly #ffmpeg: Ffmpeg;
  readonly #limits: ChildLimits;
  readonly #queueTimeoutSeconds: number;
  /** Those who wait, by owner; the owner whose turn it is comes first. */
  readonly #waiters = new Map<number | undefined, Set<Waiter>>();
  readonly #loans = new Map<Borrower, Loan>();
  readonly #running = new Set<FfmpegProcess>();
  #taken = 0;
  #closed = false;

  constructor({ ffmpeg, lanes, stallSeconds, queueTimeoutSeconds, limits }: EncoderPoolOptions) {
    this.#ffmpeg = ffmpeg;
    this.lanes = lanes ?? availableParallelism();
    this.stallSeconds = stallSeconds ?? 30;
    this.#queueTimeoutSeconds = queueTimeoutSeconds ?? 30;
    this.#limits = limits ?? { addressSpaceBytes: 2 * 1024 ** 3, cpuSeconds: 4 * 3600 };
  }

  /** Whether the pool was disposed of. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Places in use, those lent included. */
  get taken(): number {
    return this.#taken;
  }

  /** Uploads that wait for a place. */
  get waiting(): number {
    return [...this.#waiters.values()].reduce((sum, ofOwner) => sum + ofOwner.size, 0);
  }

  /** Encoder processes that run now. */
  get running(): number {
    return this.#running.size;
  }

  /**
   * Waits for a place. Owners take turns, however many uploads each has; those of one owner go in order of arrival.
   * @throws the signal's reason when it aborts first
   * @throws {ServiceError} `SHUTTING_DOWN` when the pool is disposed of, `BUSY` when no place came free in time
   */
  async acquire(signal: AbortSignal, owner?: number): Promise<EncoderPlace> {
    signal.throwIfAborted();
    if (this.#closed) throw shuttingDown();
    if (this.#taken < this.lanes) return this.#takePlace();
    const { promise, resolve, reject } = Promise.withResolvers<EncoderPlace>();
    const waiter: Waiter = { admit: resolve, refuse: reject };
    const leave = (reason: unknown) => {
      if (this.#removeWaiter(owner, waiter)) waiter.refuse(reason);
    };
    const onAbort = () => leave(signal.reason);
    const timer = setTimeout(() => leave(busy()), this.#queueTimeoutSeconds * 1000);
    signal.addEventListener("abort", onAbort);
    const ofOwner = this.#waiters.get(owner) ?? new Set();
    this.#waiters.set(owner, ofOwner.add(waiter));
    this.#callBack();
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** A further place for an upload that has one, if one is free. */
  borrow(borrower: Borrower): EncoderPlace | undefined {
    if (this.#closed || this.#taken >= this.lanes) return undefined;
    const loan = this.#loans.get(borrower) ?? { lent: 0, calledBack: 0 };
    loan.lent += 1;
    this.#loans.set(borrower, loan);
    return this.#takePlace(borrower);
  }

  /**
   * Starts one ffmpeg for the holder of a place; it dies with the pool at the latest.
   * @throws {ServiceError} `SHUTTING_DOWN` when the pool is disposed of
   */
  start(args: readonly string[]): FfmpegProcess {
    if (this.#closed) throw shuttingDown();
    const child = startFfmpeg(this.#ffmpeg, this.#limits, args);
    this.#running.add(child);
    void this.#forgetAtEnd(child);
    return child;
  }

  /** Refuses everybody who waits and kills every process. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const ofOwner of this.#waiters.values()) for (const waiter of ofOwner) waiter.refuse(shuttingDown());
    this.#waiters.clear();
    await Promise.all([...this.#running].map((child) => child[Symbol.asyncDispose]()));
  }

  async #forgetAtEnd(child: FfmpegProcess): Promise<void> {
    await child.ended;
    this.#running.delete(child);
  }

  #takePlace(borrower?: Borrower): EncoderPlace {
    this.#taken += 1;
    let held = true;
    let resting = false;
    return {
      pool: this,
      rest: () => {
        if (!held || resting) return;
        resting = true;
        this.#free();
      },
      wake: () => {
        if (!held || !resting) return;
        resting = false;
        this.#taken += 1;
      },
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        if (borrower) this.#settleLoan(borrower);
        if (!resting) this.#free();
      },
    };
  }

  #free(): void {
    this.#taken -= 1;
    if (this.#taken >= this.lanes) return;
    const [turn] = this.#waiters;
    if (!turn) return;
    const [owner, ofOwner] = turn;
    const [next] = ofOwner;
    if (!next) return;
    this.#removeWaiter(owner, next);
    if (this.#waiters.delete(owner)) this.#waiters.set(owner, ofOwner); // the others' turn comes first now
    next.admit(this.#takePlace());
  }

  #removeWaiter(owner: number | undefined, waiter: Waiter): boolean {
    const ofOwner = this.#waiters.get(owner);
    const waited = ofOwner?.delete(waiter) ?? false;
    if (ofOwner?.size === 0) this.#waiters.delete(owner);
    return waited;
  }

  #settleLoan(borrower: Borrower): void {
    const loan = this.#loans.get(borrower);
    if (!loan) return;
    loan.lent -= 1;
    loan.calledBack = Math.max(0, loan.calledBack - 1);
    if (loan.lent === 0) this.#loans.delete(borrower);
  }

  /** Calls one lent place back for each upload that waits, each time from the upload that has most. */
  #callBack(): void {
    const loans = [...this.#loans];
    let expected = loans.reduce((sum, [, loan]) => sum + loan.calledBack, 0);
    for (; expected < this.waiting; expected += 1) {
      const [richest] = loans.toSorted(([, a], [, b]) => stillLent(b) - stillLent(a));
      if (!richest) return;
      const [borrower, loan] = richest;
      if (stillLent(loan) === 0) return;
      loan.calledBack += 1;
      borrower.giveBackOne();
    }
  }
}

function stillLent(loan: Loan): number {
  return loan.lent - loan.calledBack;
}

function busy(): ServiceError {
  return tryAgainLater("BUSY", "Too many recordings are being converted", 10);
}
