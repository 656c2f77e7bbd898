/**
 * Keeps the shelf's word about the caches of a pair true: whether they are needed, and which copy is good.
 *
 *     needed, both good ──partner lost──▶ needed, own alone: write-through ──all on the shelf──▶ fresh nonce, needless: the partner is free
 *                                                       └─the own cache has failed──▶ needless, and no copy until the next start
 *     free ──a copy is begun──▶ taken ──it is complete──▶ needed (durably), then relied upon ──it comes to nothing──▶ fresh nonce again
 *
 * Where the operator has chosen it (`writesBackAlone`), an owner without a partner goes on from there to write-back on its own cache:
 *
 *     free ──nobody wants a copy, and its battery is good──▶ needed (durably), then trusted
 *     trusted ──a copy is wanted, or the battery has failed──▶ write-through ──all on the shelf──▶ fresh nonce, free
 *
 * Invariants:
 * - The partner's former copy is out (by the nonce) before it is written over, and only after the shelf has all that it would be
 *   needed for: at every moment some way back to everything acknowledged exists without the own cache, or the loss is of two parts.
 * - The copy is relied upon, and the own cache alone is trusted, only after the shelf says that the caches are needed.
 * - No copy is begun while the own cache alone is trusted: one that looks complete would lack what is acknowledged meanwhile.
 */
import type { Clock } from "../../hal/api/clock.ts";
import type { EventSink } from "../manage/events.ts";
import type { StoreError } from "../store/store.ts";
import { pairLimits } from "./limits.ts";
import type { MirroredCache } from "./mirrored_cache.ts";

export interface CopyKeeperParts {
  readonly mirror: MirroredCache;
  readonly clock: Clock;
  readonly events: EventSink;
  /** Write-through is on for every group, and the shelf has everything acknowledged. */
  allOnShelf(): boolean;
  /** The own cache has failed: it is written through until the next start, and takes no nonce. */
  ownFailed(): boolean;
  /** Gives cache and shelf a fresh nonce, and says that the caches are needless. */
  renounce(done: (error: StoreError | null) => void): void;
  /** Says on the shelf that the caches are needless, and nothing else. */
  needNoMore(done: (error: StoreError | null) => void): void;
  /** Says on the shelf that the caches are needed. */
  need(done: (error: StoreError | null) => void): void;
  readonly writesBackAlone: boolean;
  /** The partner is there to take a copy. */
  isCopyWanted(): boolean;
}

export class CopyKeeper {
  readonly #parts: CopyKeeperParts;
  /** What the shelf says. */
  #needless = false;
  /** The partner's cache has no nonce that counts, and the shelf has everything. */
  #free = false;
  #busy = false;
  /** Why the shelf has not taken what it has to know; null: it has. Of a disk that has failed a flush this stays until the next start. */
  trouble: string | null = null;
  /** The partner's copy may be written over now. */
  onFree: () => void = () => {};

  constructor(parts: CopyKeeperParts) {
    this.#parts = parts;
  }

  /** Whether nothing would be lost with the partner's copy. */
  get partnerIsFree(): boolean {
    return this.#free && !this.#busy && !this.#parts.mirror.isTrusted;
  }

  /** See `CopyKeeperParts`. */
  get ownFailed(): boolean {
    return this.#parts.ownFailed();
  }

  /** A copy begins: from here on the partner's cache may come to look like a good one. */
  taken(): void {
    this.#free = false;
  }

  /** Called whenever the copy's state or the own battery's has changed, the shelf has taken something, or the partner wants a copy. */
  look(): void {
    if (this.#busy) return;
    const { mirror, isCopyWanted } = this.#parts;
    if (mirror.state === "complete") {
      if (!this.#needless) return mirror.rely();
      this.#run(
        (done) => this.#parts.need(done),
        () => {
          this.#needless = false;
        },
      );
    } else if (mirror.state === "alone" && !this.#free && this.#parts.ownFailed()) {
      // The partner's former copy stays as it is, and good: a new one would be made of a cache that has failed.
      if (!this.#needless && this.#parts.allOnShelf())
        this.#run(
          (done) => this.#parts.needNoMore(done),
          () => {
            this.#needless = true;
          },
        );
    } else if (mirror.state === "alone" && !this.#free && this.#parts.allOnShelf()) {
      this.#run(
        (done) => this.#parts.renounce(done),
        () => {
          this.#needless = true;
          this.#free = this.#parts.mirror.state === "alone";
          if (this.#free) this.onFree();
        },
      );
    } else if (mirror.isTrusted && (isCopyWanted() || mirror.localBattery() !== "good")) {
      this.#free = false;
      mirror.distrust();
      // Where the battery has failed before, write-through is on already, and nobody else calls.
      this.look();
    } else if (this.#free && this.#mayTrust()) {
      this.#run(
        (done) => this.#parts.need(done),
        () => {
          this.#needless = false;
          if (this.#mayTrust()) mirror.trust();
          else this.#free = false;
        },
      );
    }
  }

  /** The own cache alone. */
  #mayTrust(): boolean {
    const { mirror, writesBackAlone, isCopyWanted } = this.#parts;
    const isAlone = mirror.state === "alone" && !mirror.isTrusted && !isCopyWanted();
    return writesBackAlone && isAlone && mirror.localBattery() === "good";
  }

  #run(step: (done: (error: StoreError | null) => void) => void, then: () => void): void {
    const { clock, events } = this.#parts;
    this.#busy = true;
    step((error) => {
      if (error !== null) {
        if (error.text !== this.trouble)
          events.emit(
            "pair-copy-trouble",
            `the shelf did not take what it has to know of the write caches: ${error.text}`,
          );
        this.trouble = error.text;
        clock.after(pairLimits.retryMs, () => {
          this.#busy = false;
          this.look();
        });
        return;
      }
      this.#busy = false;
      this.trouble = null;
      then();
      this.look();
    });
  }
}
