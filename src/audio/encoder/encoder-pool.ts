import { availableParallelism } from "node:os";
import { shuttingDown, tryAgainLater, type ServiceError } from "../../errors/errors.ts";
import { MemoryBlocks } from "../../memory/memory-blocks.ts";
import type { ChildLimits, Ffmpeg, FfmpegProcess } from "./ffmpeg.ts";
import { startFfmpeg } from "./ffmpeg.ts";

/** What an {@link EncoderPool} needs. */
export interface EncoderPoolOptions {
  readonly ffmpeg: Ffmpeg;
  /** Encoder processes at once, for the whole service; by default one for each core. */
  readonly lanes?: number;
  /** How long a process may do nothing although there is something to do; by default 30 s. */
  readonly stallSeconds?: number;
  /** How long an upload may wait for its first turn while nobody else gets one either; by default 30 s. */
  readonly queueTimeoutSeconds?: number;
  /** How long a turn lasts at least while others wait; by default 1 s. */
  readonly turnSeconds?: number;
  /** Of each process; by default 2 GiB of address space and four hours of CPU time. */
  readonly limits?: ChildLimits;
}

/** An upload's share in the encoders: its turn to let a process work, again and again; dispose of it when all are gone. */
export interface EncoderPlace extends Disposable {
  readonly pool: EncoderPool;
  /** Whether it is this upload's turn. */
  readonly working: boolean;
  /** Whether this upload has had its turn and should leave, because somebody else waits; it stays so until it leaves. */
  turnIsOver(): boolean;
  /** Nothing is being encoded: it is somebody else's turn. A process that goes on with the next turn is named. */
  leave(process?: IdleProcess): void;
  /** Asks for the next turn: it may be at once, else `onTurn` is called when it comes, or when the pool is closed. */
  askForTurn(onTurn: () => void): void;
}

/** A process that waits for its upload's next turn. */
export interface IdleProcess {
  /** Whether another process could go on in its place. */
  readonly joinable: boolean;
  endIdleProcess(): void;
}

/** Who asks for a place. */
export interface Applicant {
  /** Owners take turns. */
  readonly owner?: number | undefined;
  /** Whether its process can be replaced by another one within the sound; by default it can. */
  readonly joinable?: boolean;
  /** Rests while the upload waits for its turn. */
  readonly slot?: { rest(why: "encoder"): void; wake(why: "encoder"): void } | undefined;
}

/** An upload that runs on more places than the one it is entitled to. */
export interface Borrower {
  /** Somebody waits: give any one of your places back as soon as what it was fed is encoded. */
  giveBackOne(): void;
}

interface Waiter {
  readonly owner: number | undefined;
  /** It has no process yet, and will have one that no other can replace. */
  readonly needsProcessForGood: boolean;
  admit(): void;
  refuse(reason: unknown): void;
}

/** Turns that newcomers have before one who has had a turn has another. */
const newcomersInARow = 3;

/** Places that one borrower has, and how many of them it was told to give back. */
interface Loan {
  lent: number;
  calledBack: number;
}

/**
 * All encoder processes of the service. Each upload is entitled to one place and waits for it in turn; one that has had
 * it for a while makes room for those who wait, and waits for its next turn. Places that nobody waits for are lent to
 * uploads that run already, and called back as soon as somebody does.
 */
export class EncoderPool implements AsyncDisposable {
  /** Encoder processes that work at once. */
  readonly lanes: number;
  /** Processes that wait for their uploads' next turn. */
  readonly maxIdleProcesses: number;
  /** How long a process may do nothing although there is something to do. */
  readonly stallSeconds: number;
  /** Memory for the PCM that waits for the processes. */
  readonly blocks = new MemoryBlocks(256 * 1024, 64);
  readonly #ffmpeg: Ffmpeg;
  readonly #limits: ChildLimits;
  readonly #queueTimeoutSeconds: number;
  readonly #turnSeconds: number;
  /** Those who wait for their first turn. */
  readonly #newcomers = new TurnQueue();
  /** Those who wait for a further turn. */
  readonly #others = new TurnQueue();
  #newcomersInARow = 0;
  /** When somebody who waited got a turn, last. */
  #movedAt = -Infinity;
  /** Places that were told that their turn is over, and are not left yet. */
  #leaving = 0;
  /** Oldest first. */
  readonly #idle = new Map<EncoderPlace, IdleProcess>();
  /** Places whose processes no other can replace. */
  #irreplaceable = 0;
  readonly #loans = new Map<Borrower, Loan>();
  readonly #running = new Set<FfmpegProcess>();
  #taken = 0;
  #closed = false;

  constructor({ ffmpeg, lanes, stallSeconds, queueTimeoutSeconds, turnSeconds, limits }: EncoderPoolOptions) {
    this.#ffmpeg = ffmpeg;
    this.lanes = lanes ?? availableParallelism();
    this.maxIdleProcesses = 3 * this.lanes + 8;
    this.#turnSeconds = turnSeconds ?? 1;
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

  /** Uploads that wait for a turn. */
  get waiting(): number {
    return this.#newcomers.size + this.#others.size;
  }

  /** Processes that there can be at once. */
  get maxProcesses(): number {
    return this.lanes + this.maxIdleProcesses;
  }

  /** Encoder processes that run now. */
  get running(): number {
    return this.#running.size;
  }

  /**
   * Waits for the first turn. Owners take turns, however many uploads each has; those of one owner go in order of arrival.
   * @throws the signal's reason when it aborts first
   * @throws {ServiceError} `SHUTTING_DOWN` when the pool is disposed of, `BUSY` when the queue does not move
   */
  async acquire(signal: AbortSignal, { owner, joinable = true, slot }: Applicant = {}): Promise<EncoderPlace> {
    signal.throwIfAborted();
    if (this.#closed) throw shuttingDown();
    const needsProcessForGood = !joinable;
    if (this.#taken < this.lanes && this.#mayAdmit({ needsProcessForGood })) {
      return this.#newPlace({ owner, joinable, slot });
    }
    const { promise, resolve, reject } = Promise.withResolvers<EncoderPlace>();
    const waiter: Waiter = {
      owner,
      needsProcessForGood,
      admit: () => resolve(this.#newPlace({ owner, joinable, slot })),
      refuse: reject,
    };
    const leave = (reason: unknown) => {
      if (this.#newcomers.remove(waiter)) waiter.refuse(reason);
    };
    const onAbort = () => leave(signal.reason);
    const since = performance.now();
    const patienceMs = this.#queueTimeoutSeconds * 1000;
    const onTimeout = () => {
      const leftMs = Math.max(since, this.#movedAt) + patienceMs - performance.now();
      if (leftMs <= 0) leave(busy());
      else timer = setTimeout(onTimeout, leftMs);
    };
    let timer = setTimeout(onTimeout, patienceMs);
    signal.addEventListener("abort", onAbort);
    slot?.rest("encoder");
    this.#newcomers.add(waiter);
    this.#callBack();
    try {
      return await promise;
    } finally {
      slot?.wake("encoder");
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
    return this.#newPlace({}, borrower);
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
    for (const queue of [this.#newcomers, this.#others]) queue.refuseAll(shuttingDown());
    await Promise.all([...this.#running].map((child) => child[Symbol.asyncDispose]()));
  }

  async #forgetAtEnd(child: FfmpegProcess): Promise<void> {
    await child.ended;
    this.#running.delete(child);
  }

  #newPlace({ owner, joinable = true, slot }: Applicant, borrower?: Borrower): EncoderPlace {
    let held = true;
    let working = true;
    let isOver = false;
    let since = performance.now();
    let waiter: Waiter | undefined;
    this.#taken += 1;
    if (!joinable) this.#irreplaceable += 1;
    const stopWaiting = () => {
      if (waiter) this.#others.remove(waiter);
      waiter = undefined;
      slot?.wake("encoder");
    };
    const stopWorking = () => {
      if (!working) return;
      working = false;
      if (isOver) this.#leaving -= 1;
      isOver = false;
      this.#taken -= 1;
    };
    const work = () => {
      working = true;
      since = performance.now();
      this.#taken += 1;
      this.#idle.delete(place);
    };
    const place: EncoderPlace = {
      pool: this,
      get working() {
        return working;
      },
      turnIsOver: () => {
        if (isOver || !working) return isOver;
        if (this.waiting <= this.#comingFree() || performance.now() - since < this.#turnSeconds * 1000) return false;
        this.#leaving += 1;
        return (isOver = true);
      },
      leave: (process) => {
        if (!held || !working) return;
        stopWorking();
        if (process) this.#keepIdle(place, process);
        this.#admitNext();
      },
      askForTurn: (onTurn) => {
        if (!held || working || waiter) return;
        if (this.#taken < this.lanes && this.waiting === 0) return work();
        waiter = {
          owner,
          needsProcessForGood: false,
          admit: () => {
            stopWaiting();
            work();
            onTurn();
          },
          refuse: () => {
            stopWaiting();
            onTurn();
          },
        };
        this.#others.add(waiter);
        slot?.rest("encoder");
        this.#callBack();
        this.#admitNext();
      },
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        stopWaiting();
        stopWorking();
        this.#idle.delete(place);
        if (borrower) this.#settleLoan(borrower);
        if (!joinable) this.#irreplaceable -= 1;
        this.#admitNext();
      },
    };
    return place;
  }

  /** Lets the process wait for its next turn; of too many, the one that has waited longest ends. */
  #keepIdle(place: EncoderPlace, process: IdleProcess): void {
    this.#idle.set(place, process);
    if (this.#idle.size <= this.maxIdleProcesses) return;
    const oldest = [...this.#idle].find(([, { joinable }]) => joinable);
    if (!oldest) return;
    this.#idle.delete(oldest[0]);
    oldest[1].endIdleProcess();
  }

  /** Half of the processes that wait may be ones that no other can replace. */
  #mayAdmit({ needsProcessForGood }: Pick<Waiter, "needsProcessForGood">): boolean {
    return !needsProcessForGood || this.#irreplaceable < this.maxIdleProcesses / 2;
  }

  #admitNext(): void {
    while (this.#taken < this.lanes) {
      const isNewcomersTurn = this.#newcomersInARow < newcomersInARow || this.#others.size === 0;
      const mayAdmit = (waiter: Waiter) => this.#mayAdmit(waiter);
      const newcomer = isNewcomersTurn ? this.#newcomers.takeNext(mayAdmit) : undefined;
      const next = newcomer ?? this.#others.takeNext(mayAdmit);
      if (!next) return;
      this.#newcomersInARow = newcomer ? this.#newcomersInARow + 1 : 0;
      this.#movedAt = performance.now();
      next.admit();
    }
  }

  /** Places that come free soon, because their holders were told. */
  #comingFree(): number {
    return [...this.#loans.values()].reduce((sum, { calledBack }) => sum + calledBack, this.#leaving);
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
    let expected = this.#comingFree();
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

/** Those who wait, by owner; the owner whose turn it is comes first. */
class TurnQueue {
  readonly #ofOwners = new Map<number | undefined, Set<Waiter>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(waiter: Waiter): void {
    const ofOwner = this.#ofOwners.get(waiter.owner) ?? new Set();
    this.#ofOwners.set(waiter.owner, ofOwner.add(waiter));
    this.#size += 1;
  }

  /** Whether it was still waiting. */
  remove(waiter: Waiter): boolean {
    const ofOwner = this.#ofOwners.get(waiter.owner);
    if (!ofOwner?.delete(waiter)) return false;
    if (ofOwner.size === 0) this.#ofOwners.delete(waiter.owner);
    this.#size -= 1;
    return true;
  }

  /** Takes the next one that may be admitted; after it, it is the other owners' turn. */
  takeNext(mayAdmit: (waiter: Waiter) => boolean): Waiter | undefined {
    for (const [owner, ofOwner] of this.#ofOwners) {
      for (const waiter of ofOwner) {
        if (!mayAdmit(waiter)) continue;
        this.remove(waiter);
        if (this.#ofOwners.delete(owner)) this.#ofOwners.set(owner, ofOwner);
        return waiter;
      }
    }
    return undefined;
  }

  refuseAll(reason: unknown): void {
    for (const ofOwner of this.#ofOwners.values()) for (const waiter of ofOwner) waiter.refuse(reason);
    this.#ofOwners.clear();
    this.#size = 0;
  }
}

function stillLent(loan: Loan): number {
  return loan.lent - loan.calledBack;
}

function busy(): ServiceError {
  return tryAgainLater("BUSY", "Too many recordings are being converted", 10);
}
