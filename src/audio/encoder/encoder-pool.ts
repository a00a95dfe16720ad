import { availableParallelism } from "node:os";
import { shuttingDown } from "../../errors/errors.ts";
import { MemoryBlocks } from "../../memory/memory-blocks.ts";
import { FairSemaphore, type Permit } from "../../queue/fair-semaphore.ts";
import type { Ffmpeg } from "./ffmpeg.ts";
import { FfmpegStarter, type FfmpegProcess } from "./ffmpeg-starter.ts";
import { maxReadyEncoders, ReadyEncoders, type EncoderStart } from "./ready-encoders.ts";
import type { ChildLimits } from "./started-process.ts";

/** Options of an {@link EncoderPool}. */
export interface EncoderPoolOptions {
  readonly ffmpeg: Ffmpeg;
  /** Maximum of encoder processes that work at the same time; by default one per core. */
  readonly size?: number;
  /** How long a process may make no progress while it has work; by default 30 s. */
  readonly stallSeconds?: number;
  /** How long a conversion may wait for its first turn while no other gets a turn either; by default 30 s. */
  readonly queueTimeoutSeconds?: number;
  /** Minimum length of a turn while a conversion waits for its first turn, or for its last one; by default 1 s. */
  readonly turnSeconds?: number;
  /** Limits of each process; by default 2 GiB of address space and four hours of CPU time. */
  readonly limits?: ChildLimits;
}

/** Whose conversion it is. */
export interface Applicant {
  /** Owners take turns. */
  readonly owner?: number | undefined;
  /** Suspended while the conversion waits for its turn. */
  readonly slot?: Pick<Permit, "suspend"> | undefined;
}

/**
 * The turns of one conversion. During a turn, an encoder process may work for it. Dispose of it when all of the
 * conversion's processes have ended, or were killed.
 */
export interface EncoderTurns extends Disposable {
  readonly pool: EncoderPool;
  /** Whether this conversion has its turn now. */
  readonly isOn: boolean;
  /**
   * Whether this turn should end, because another conversion waits and the turn has lasted long enough. Once true, it
   * stays true until the turn ends. A conversion that is almost done keeps its turn: `leftRatio` is an upper bound of
   * what is left to encode, divided by what was encoded in this turn.
   */
  shouldEnd(leftRatio: number): boolean;
  /**
   * Ends the turn; nothing may be encoding. A process that is kept for the next turn is parked: pass what ends it, in
   * case too many are parked.
   */
  end(endParkedProcess?: () => void): void;
  /**
   * Waits for the next turn. A conversion that is almost done goes before those that are not.
   * @throws {ServiceError} `SHUTTING_DOWN` if the pool is disposed of
   */
  next(isAlmostDone?: () => boolean): Promise<void>;
}

/** An encoder that no conversion waits for, used by one that has its turn. Dispose of it to return it. */
export interface SpareEncoder extends Disposable {
  /** Whether the pool has asked for it, because a conversion waits. */
  readonly isWanted: boolean;
}

/** How a conversion waits that has had a turn before. */
interface NextTurn {
  readonly isAlmostDone: () => boolean;
}

/** What a conversion gets that asks for a turn when it is over. */
const conversionOver = new Error("The conversion is over.");

/** Factor by which a turn is longer while only conversions wait that have already had a turn and are not almost done. */
const longTurnFactor = 8;

/**
 * All encoder processes of the service, and the turns of the conversions that use them. A turn ends after a while if
 * other conversions wait. An encoder that no conversion waits for is a spare: a conversion that has its turn may use it
 * until another conversion waits.
 */
export class EncoderPool implements AsyncDisposable {
  /** Maximum of encoder processes that work at the same time. */
  readonly size: number;
  /** Maximum of processes that are parked until their conversion's next turn. */
  readonly maxParkedProcesses: number;
  /** How long a process may make no progress while it has work. */
  readonly stallSeconds: number;
  /** Memory for PCM that waits for a process. */
  readonly blocks = new MemoryBlocks(256 * 1024, 64);
  /** Memory for MP3 that waits until the frames before it have been made. */
  readonly mp3Blocks = new MemoryBlocks(64 * 1024, 32);
  readonly #turnSeconds: number;
  readonly #permits: FairSemaphore<number | undefined>;
  /** Number of turns that are about to end. */
  #ending = 0;
  /** In the order in which they were taken. */
  readonly #spares = new Set<{ isWanted: boolean; readonly giveBack: () => void }>();
  /** What ends each parked process; the one parked longest comes first. */
  readonly #parked = new Map<EncoderTurns, () => void>();
  /** The processes of conversions. */
  readonly #running = new Set<FfmpegProcess>();
  readonly #starter: FfmpegStarter;
  readonly #ready: ReadyEncoders;
  /** Whether an encoder can be given the silence with which its sound begins before the sound comes. */
  readonly givesSilence: boolean;
  #closed = false;

  constructor({ ffmpeg, size, stallSeconds, queueTimeoutSeconds, turnSeconds, limits }: EncoderPoolOptions) {
    this.size = size ?? availableParallelism();
    this.maxParkedProcesses = 3 * this.size + 8;
    this.#turnSeconds = turnSeconds ?? 1;
    this.stallSeconds = stallSeconds ?? 30;
    const childLimits = limits ?? { addressSpaceBytes: 2 * 1024 ** 3, cpuSeconds: 4 * 3600 };
    this.givesSilence = ffmpeg.setsRate ?? false;
    this.#starter = new FfmpegStarter(ffmpeg, childLimits);
    this.#ready = new ReadyEncoders((args) => this.#starter.start(args));
    this.#permits = new FairSemaphore({
      permits: this.size,
      timeoutSeconds: queueTimeoutSeconds ?? 30,
      busy: "Too many recordings are being converted",
    });
  }

  /** Whether the pool was disposed of. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Number of encoders in use, spares included. */
  get taken(): number {
    return this.#permits.inUse;
  }

  /** Number of conversions that wait for a turn. */
  get waiting(): number {
    return this.#permits.waiting;
  }

  /** Maximum of processes, including those that are parked or ready. */
  get #maxProcesses(): number {
    return this.size + this.maxParkedProcesses + maxReadyEncoders;
  }

  /** Maximum of files that are open for processes. */
  get maxFiles(): number {
    return this.#starter.maxFiles(this.#maxProcesses);
  }

  /** Number of processes that wait for a conversion. */
  get ready(): number {
    return this.#ready.count;
  }

  /** Whether a process that was started like this waits for a conversion. */
  hasReady(start: EncoderStart): boolean {
    return this.#ready.has(start);
  }

  /** Number of processes that conversions have, parked ones included. */
  get running(): number {
    return [...this.#running].filter(({ isKilled }) => !isKilled).length;
  }

  /**
   * Waits for a conversion's first turn.
   * @throws the signal's reason if it is aborted first
   * @throws {ServiceError} `SHUTTING_DOWN` if the pool is disposed of, `BUSY` if the queue does not move
   */
  async acquire(signal: AbortSignal, applicant: Applicant = {}): Promise<EncoderTurns> {
    return this.#turnsOf(applicant, await this.#permit(applicant, signal));
  }

  /** Takes a spare encoder, if there is one. `giveBack` is called when another conversion needs it. */
  takeSpare(giveBack: () => void): SpareEncoder | undefined {
    const permit = this.#permits.tryAcquire({ owner: undefined });
    if (!permit) return undefined;
    const spare = { isWanted: false, giveBack };
    this.#spares.add(spare);
    return {
      get isWanted() {
        return spare.isWanted;
      },
      [Symbol.dispose]: () => {
        this.#spares.delete(spare);
        permit[Symbol.dispose]();
      },
    };
  }

  /**
   * Starts one ffmpeg for a conversion that has its turn, or takes one that is ready. Disposing of the pool kills it.
   * @throws {ServiceError} `SHUTTING_DOWN` if the pool is disposed of
   */
  start(start: EncoderStart): FfmpegProcess {
    if (this.#closed) throw shuttingDown();
    const child = this.#ready.take(start);
    this.#running.add(child);
    void this.#forgetAtEnd(child);
    return child;
  }

  /** Refuses all waiting conversions and kills all processes. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#permits[Symbol.dispose]();
    await Promise.all([...this.#running, this.#ready].map((each) => each[Symbol.asyncDispose]()));
    await this.#starter[Symbol.asyncDispose]();
  }

  async #forgetAtEnd(child: FfmpegProcess): Promise<void> {
    await child.ended;
    this.#running.delete(child);
  }

  async #permit({ owner, slot }: Applicant, signal: AbortSignal, again?: NextTurn): Promise<Permit> {
    const request = { owner, again: again !== undefined, ...again };
    signal.throwIfAborted();
    const free = this.#permits.tryAcquire(request);
    if (free) return free;
    using _suspension = slot?.suspend();
    const permit = this.#permits.acquire(request, signal);
    this.#askForSpares();
    return await permit;
  }

  #turnsOf(applicant: Applicant, first: Permit): EncoderTurns {
    const gone = new AbortController();
    let permit: Permit | undefined = first;
    let since = performance.now();
    let isEnding = false;
    const turns: EncoderTurns = {
      pool: this,
      get isOn() {
        return permit !== undefined;
      },
      shouldEnd: (leftRatio) => {
        if (isEnding || !permit || !this.#mayEndAfter((performance.now() - since) / 1000, leftRatio)) return isEnding;
        this.#ending += 1;
        return (isEnding = true);
      },
      end: (endParkedProcess) => {
        if (!permit) return;
        if (isEnding) this.#ending -= 1;
        isEnding = false;
        if (endParkedProcess) this.#park(turns, endParkedProcess);
        const given = permit;
        permit = undefined;
        given[Symbol.dispose]();
        this.#ready.refillSoon(() => this.taken >= this.size);
      },
      next: async (isAlmostDone = () => false) => {
        const next = await this.#permit(applicant, gone.signal, { isAlmostDone });
        if (gone.signal.aborted) next[Symbol.dispose]();
        gone.signal.throwIfAborted();
        permit = next;
        since = performance.now();
        this.#parked.delete(turns);
      },
      [Symbol.dispose]: () => {
        gone.abort(conversionOver); // without a reason, it would make an error each time
        turns.end();
        this.#parked.delete(turns);
      },
    };
    return turns;
  }

  /** Whether a turn of this length should end, for a conversion with so much left for each encoded byte. */
  #mayEndAfter(seconds: number, leftRatio: number): boolean {
    const comingFree = this.#comingFree();
    const isShort = seconds < this.#turnSeconds || seconds * leftRatio < this.#turnSeconds;
    if (this.waiting <= comingFree || isShort) return false;
    return seconds >= this.#turnSeconds * longTurnFactor || this.#permits.waitingUrgently > comingFree;
  }

  /** Parks a process. If too many are parked, the one parked longest ends. */
  #park(turns: EncoderTurns, endProcess: () => void): void {
    this.#parked.set(turns, endProcess);
    if (this.#parked.size <= this.maxParkedProcesses) return;
    const [oldest, endOldest] = [...this.#parked][0]!;
    this.#parked.delete(oldest);
    endOldest();
  }

  /** Number of encoders that will be free soon, because their conversions were told. */
  #comingFree(): number {
    return [...this.#spares].filter(({ isWanted }) => isWanted).length + this.#ending;
  }

  /** Asks for one spare encoder for each waiting conversion, starting with the one taken last. */
  #askForSpares(): void {
    const unasked = [...this.#spares].filter(({ isWanted }) => !isWanted);
    for (let expected = this.#comingFree(); expected < this.waiting; expected += 1) {
      const spare = unasked.pop();
      if (!spare) return;
      spare.isWanted = true;
      spare.giveBack();
    }
  }
}
