/**
 * A mixed load on one volume over two paths that knows what every read has to find: random writes and reads of one block, from the
 * first block on, each block written once before; a sweep at the end reads all of them.
 */
import { AnswerTimes, type Gap } from "./answer_times.ts";
import { BlockNumbers, type Violations } from "./block_numbers.ts";
import { TwoPaths, type Waits } from "./two_paths.ts";

export interface VerifiedLoadOptions {
  /** `nbd://HOST:PORT/EXPORT` or `iscsi://HOST:PORT/IQN/LUN`; the path that is tried first comes first. */
  readonly urls: readonly string[];
  readonly depth: number;
  readonly writeShare: number;
  /** The part of the volume that is used. */
  readonly sizeBytes: number;
  /** A host that gets nothing done for so long gives up; a minute where nothing is said. */
  readonly deadMs?: number;
  /** How long a path may take, where it is not as usual. */
  readonly waits?: Waits;
}

export const mixedLoad = { depth: 16, writeShare: 0.7, sizeBytes: 64 * 1024 ** 2 } as const;

export interface LoadReport {
  readonly acknowledgedWrites: number;
  readonly reads: number;
  readonly longestGapMs: number;
  /** Answers other than success; each request was repeated. */
  readonly errors: number;
  /** Unit attentions and busy: said to a host in the course of things. */
  readonly repeats: number;
  /** How often the path in use broke. */
  readonly breaks: number;
  readonly violations: Violations;
  /** The first errors and violations in words. */
  readonly told: readonly string[];
}

const blockBytes = 4096;
const toldMax = 20;
const usualDeadMs = 60_000;
/** A stamp keeps eight bits of it. */
const loadNumbers = 255;

type Phase = "fill" | "mix" | "sweep";

interface Doing {
  block: number;
  isWrite: boolean;
  floor: number;
}

let loads = 0;

export class VerifiedLoad {
  readonly #options: VerifiedLoadOptions;
  readonly #paths: TwoPaths;
  readonly #numbers: BlockNumbers;
  readonly #blocks: number;
  readonly #times = new AnswerTimes(performance.now());
  readonly #payloads: Uint8Array[];
  readonly #doing: (Doing | null)[];
  readonly #told: string[] = [];
  #phase: Phase = "fill";
  #next = 0;
  #writes = 0;
  #reads = 0;
  #errors = 0;
  #repeats = 0;
  #breaks = 0;
  /** What waits for something to come about; looked at when answers have come. */
  #waiters: { readonly isTrue: () => boolean; readonly wake: () => void }[] = [];
  #state = 0x9e3779b9;

  constructor(options: VerifiedLoadOptions) {
    this.#options = options;
    this.#blocks = Math.floor(options.sizeBytes / blockBytes);
    loads = (loads % loadNumbers) + 1;
    this.#numbers = new BlockNumbers(this.#blocks, blockBytes, loads);
    this.#payloads = Array.from({ length: options.depth }, () => new Uint8Array(blockBytes));
    this.#doing = new Array<Doing | null>(options.depth).fill(null);
    this.#paths = new TwoPaths(
      options.urls,
      blockBytes,
      options.depth,
      {
        answered: (slot, data) => this.#answered(slot, data),
        handled: () => this.#handled(),
        refused: (refusal, text) => {
          if (refusal === "again") this.#repeats++;
          else this.#errors++;
          if (refusal === "error") this.#tell(text);
        },
        broken: () => {
          this.#breaks++;
        },
      },
      options.waits,
    );
  }

  /** Resolves when every block has been written once and the mix has begun. */
  async start(): Promise<void> {
    const sizeBytes = await this.#paths.start();
    if (sizeBytes < this.#options.sizeBytes) throw new Error(`the volume has only ${sizeBytes} bytes`);
    await this.#pass("fill");
    this.#phase = "mix";
    this.#issueAll();
  }

  get answers(): number {
    return this.#times.count;
  }

  /** The path in use; null: none is now. */
  get path(): string | null {
    return this.#paths.inUse;
  }

  /** `gap` tells of what comes from now on. */
  mark(): void {
    this.#times.mark();
  }

  get gap(): Gap {
    return this.#times.gap;
  }

  /** Resolves when `count` more requests have been answered. */
  async more(count: number): Promise<void> {
    const enough = this.#times.count + count;
    await this.#until(() => this.#times.count >= enough);
  }

  /** Lets what is under way end, reads every block, and reports. */
  async finish(): Promise<LoadReport> {
    await this.#pass("sweep");
    const report = this.report();
    this.stop();
    return report;
  }

  /** Ends in the midst of everything. */
  stop(): void {
    this.#paths.stop();
  }

  report(): LoadReport {
    return {
      acknowledgedWrites: this.#writes,
      reads: this.#reads,
      longestGapMs: this.#times.longestGapMs,
      errors: this.#errors,
      repeats: this.#repeats,
      breaks: this.#breaks,
      violations: this.#numbers.violations,
      told: [...this.#told, ...this.#numbers.told],
    };
  }

  /** Every block once, in order, when what was under way has ended. */
  async #pass(phase: Phase): Promise<void> {
    this.#phase = phase;
    this.#next = this.#blocks;
    const isIdle = () => this.#doing.every((doing) => doing === null);
    await this.#until(isIdle);
    this.#next = 0;
    this.#issueAll();
    await this.#until(() => this.#next >= this.#blocks && isIdle());
  }

  #until(isTrue: () => boolean): Promise<void> {
    if (isTrue()) return Promise.resolve();
    const deadMs = this.#options.deadMs ?? usualDeadMs;
    return new Promise((resolve, reject) => {
      const waiter = {
        isTrue,
        wake: () => {
          clearInterval(watch);
          resolve();
        },
      };
      let seen = this.#times.count;
      const watch = setInterval(() => {
        if (this.#times.count === seen) {
          clearInterval(watch);
          reject(new Error(`no path has answered for ${deadMs / 1000} s: ${JSON.stringify(this.report())}`));
        }
        seen = this.#times.count;
      }, deadMs);
      this.#waiters.push(waiter);
    });
  }

  #answered(slot: number, data: Uint8Array | null): void {
    const doing = this.#doing[slot]!;
    this.#doing[slot] = null;
    this.#times.answer(performance.now());
    if (doing.isWrite) {
      this.#writes++;
      this.#numbers.acknowledge(doing.block);
    } else {
      this.#reads++;
      this.#numbers.judge(doing.block, data!, doing.floor, this.#phase === "sweep");
    }
    this.#issue(slot);
  }

  #handled(): void {
    this.#paths.push();
    if (this.#waiters.length === 0) return;
    const ready = this.#waiters.filter(({ isTrue }) => isTrue());
    this.#waiters = this.#waiters.filter((waiter) => !ready.includes(waiter));
    for (const { wake } of ready) wake();
  }

  #issueAll(): void {
    for (let slot = 0; slot < this.#doing.length; slot++) this.#issue(slot);
    this.#paths.push();
  }

  #issue(slot: number): void {
    const isMix = this.#phase === "mix";
    if (!isMix && this.#next >= this.#blocks) return;
    let block = isMix ? this.#draw() % this.#blocks : this.#next++;
    let isWrite = this.#phase === "fill";
    if (isMix && this.#draw() < this.#options.writeShare * 4294967296) {
      isWrite = true;
      // One write of a block at a time: there are many more blocks than slots.
      while (this.#numbers.isWriting(block)) block = (block + 1) % this.#blocks;
    }
    this.#doing[slot] = { block, isWrite, floor: this.#numbers.floor(block) };
    const payload = isWrite ? this.#payloads[slot]! : null;
    if (payload !== null) this.#numbers.send(block, payload);
    this.#paths.request(slot, { offsetBytes: block * blockBytes, payload });
  }

  #draw(): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return this.#state >>> 0;
  }

  #tell(text: string): void {
    if (this.#told.length < toldMax) this.#told.push(text);
  }
}
