/**
 * Space for a half that runs out of it, from the other half; and slabs that a crash or a lost answer on the way has left to nobody.
 *
 * A half asks when it has less free than `lowShare` of what it has in all, or when a write or its log finds none, and gets half of the
 * difference. Free is what is promised to nobody: the rest is as good as taken.
 *
 * Half 0 looks for slabs that are nobody's: those that are elsewhere here, and that the other half does not claim. It does so for each
 * engine, and again after whatever may have left some.
 *
 * Invariants, so that a slab on its way is never taken for nobody's:
 * - What was this half's before the claims were asked for is not taken, wherever it is by then.
 * - Nothing is taken while the other half waits for slabs that it has asked for, nor when some have come from there meanwhile.
 */
import { fromHex } from "../codec/bytes.ts";
import { whenDone } from "../codec/promised.ts";
import type { ApiAnswer } from "../manage/api.ts";
import type { EventSink } from "../manage/events.ts";
import type { Tenure } from "../manage/tenure.ts";
import type { StoreError } from "../store/store.ts";
import { type Claims, cededIn, claimsIn } from "./half_calls.ts";
import type { HalfNumber } from "./limits.ts";
import type { Engine } from "./partnership_options.ts";

/** An eighth: what a busy host writes in new places within the time of an answer is far less. */
const lowShare = 1 / 8;
/** At least so many slabs more than here, so that the last free ones do not go to and fro. */
const differenceMin = 2;
const askMax = 4096;

export interface SpaceBalanceParts {
  readonly half: HalfNumber;
  readonly events: EventSink;
  engine(): Engine | null;
  readonly tenure: Tenure;
  askOther(path: string, body: object): Promise<ApiAnswer> | null;
}

export class SpaceBalance {
  readonly #parts: SpaceBalanceParts;
  #busy = false;
  #more: Promise<boolean> | null = null;
  /** Slabs may be nobody's. */
  #isSearchDue: boolean;
  /** The engine that has asked for slabs, and has not received them. */
  #asking: Engine | null = null;
  /** How often slabs have come from the other half. */
  #receivedCount = 0;

  constructor(parts: SpaceBalanceParts) {
    this.#parts = parts;
    this.#isSearchDue = parts.half === 0;
  }

  /** Something has ended, or was lost, that may leave slabs to nobody. */
  searchAgain(): void {
    this.#isSearchDue = this.#parts.half === 0;
  }

  /** The other half must not take for nobody's what it has ceded. */
  get isAsking(): boolean {
    return this.#asking !== null && this.#asking === this.#parts.engine();
  }

  /** A write, or its log, finds no space. True: some has come. Who asks meanwhile hears the same. */
  more(): Promise<boolean> {
    this.#more ??= this.#parts.tenure
      .orOver(this.#askNow(), () => false)
      .finally(() => {
        this.#more = null;
      });
    return this.#more;
  }

  async #askNow(): Promise<boolean> {
    const engine = this.#parts.engine();
    const claims = engine === null ? null : claimsIn(await this.#parts.askOther("/half/claims", {}));
    if (engine === null || claims === null) return false;
    return this.#ask(engine, claims);
  }

  /** Called now and then. */
  async look(): Promise<void> {
    const engine = this.#parts.engine();
    if (engine === null || this.#busy) return;
    const { totalBytes, spareBytes } = engine.pool.usage();
    const isLow = spareBytes < totalBytes * lowShare;
    if (!isLow && !this.#isSearchDue) return;
    this.#busy = true;
    try {
      if (this.#isSearchDue) await this.#search(engine);
      if (isLow && this.#parts.engine() === engine) await this.more();
    } finally {
      this.#busy = false;
    }
  }

  async #search(engine: Engine): Promise<void> {
    const { pool } = engine;
    const { tenure, askOther } = this.#parts;
    const asked = askOther("/half/claims", {});
    if (asked === null) return;
    // In the same turn: nobody has answered yet.
    const before = pool.claims();
    this.#isSearchDue = false;
    const receivedBefore = this.#receivedCount;
    const answer = await asked;
    const isQuiet = this.#parts.engine() === engine && this.#receivedCount === receivedBefore;
    const claims = isQuiet ? claimsIn(answer) : null;
    if (claims === null || claims.isAsking === true) this.searchAgain();
    // An earlier version does not say whether it waits for some.
    if (claims?.isAsking !== false) return;
    const taken = fromHex(claims.slabs).map((bits, at) => bits | (before[at] ?? 0));
    const receiving = whenDone<StoreError>((done) => pool.receiveOrphans(taken, (error) => done(error)));
    const isDone = await tenure.orOver(
      receiving.then((error) => error === null),
      () => false,
    );
    if (!isDone) this.searchAgain();
  }

  async #ask(engine: Engine, { freeBytes: theirs, slabBytes }: Claims): Promise<boolean> {
    const difference = Math.floor((theirs - engine.pool.usage().spareBytes) / slabBytes);
    if (difference < differenceMin) return false;
    this.#asking = engine;
    try {
      const asked = { slabs: Math.min(askMax, Math.ceil(difference / 2)) };
      const slabs = cededIn(await this.#parts.askOther("/half/cede", asked));
      if (slabs === null) {
        this.searchAgain();
        return false;
      }
      return slabs.length > 0 && (await this.#receive(engine, slabs));
    } finally {
      if (this.#asking === engine) this.#asking = null;
    }
  }

  async #receive({ pool }: Engine, slabs: readonly number[]): Promise<boolean> {
    this.#receivedCount++;
    const error = await whenDone<StoreError>((done) => pool.receive(slabs, done));
    if (error !== null) {
      this.#parts.events.emit("space-trouble", `space from the other half could not be taken: ${error.text}`);
      return false;
    }
    await this.#parts.askOther("/half/ceded", { slabs });
    return true;
  }
}
