/**
 * Space for a half that runs out of it, from the other half; and slabs that a crash on the way has left to nobody.
 *
 * A half asks when it has less free than `lowShare` of what it has in all, or when a write or its log finds none, and gets half of the
 * difference. Free is what is promised to nobody: the rest is as good as taken.
 *
 * Invariant: slabs that were ceded and not confirmed are never taken for orphans.
 */
import type { ApiAnswer } from "../manage/api.ts";
import type { EventSink } from "../manage/events.ts";
import type { Tenure } from "../manage/tenure.ts";
import { type Claims, cededIn, claimsIn, receiveOrphans, receiveSlabs } from "./half_calls.ts";
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
  /** A bit for each slab that was ceded from here and not confirmed. */
  maskCeded(claims: Claims): Claims;
}

export class SpaceBalance {
  readonly #parts: SpaceBalanceParts;
  #busy = false;
  #more: Promise<boolean> | null = null;
  /** The engine for which orphans have been looked for. */
  #lookedFor: Engine | null = null;

  constructor(parts: SpaceBalanceParts) {
    this.#parts = parts;
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
    const { engine: now, half } = this.#parts;
    const engine = now();
    if (engine === null || this.#busy) return;
    const { totalBytes, spareBytes } = engine.pool.usage();
    const isLow = spareBytes < totalBytes * lowShare;
    // One half alone looks for orphans.
    const looks = half === 0 && this.#lookedFor !== engine;
    if (!isLow && !looks) return;
    this.#busy = true;
    try {
      const claims = claimsIn(await this.#parts.askOther("/half/claims", {}));
      if (claims === null || now() !== engine) return;
      if (looks && (await this.#takeOrphans(engine, claims))) this.#lookedFor = engine;
      if (isLow) await this.more();
    } finally {
      this.#busy = false;
    }
  }

  #takeOrphans(engine: Engine, claims: Claims): Promise<boolean> {
    const { tenure, maskCeded } = this.#parts;
    return tenure.orOver(
      receiveOrphans(engine, maskCeded(claims)).then((error) => error === null),
      () => false,
    );
  }

  async #ask(engine: Engine, { freeBytes: theirs, slabBytes }: Claims): Promise<boolean> {
    const difference = Math.floor((theirs - engine.pool.usage().spareBytes) / slabBytes);
    if (difference < differenceMin) return false;
    const asked = { slabs: Math.min(askMax, Math.ceil(difference / 2)) };
    const slabs = cededIn(await this.#parts.askOther("/half/cede", asked));
    if (slabs.length === 0) return false;
    const error = await receiveSlabs(engine, slabs);
    if (error !== null) {
      this.#parts.events.emit("space-trouble", `space from the other half could not be taken: ${error.text}`);
      return false;
    }
    await this.#parts.askOther("/half/ceded", { slabs });
    return true;
  }
}
