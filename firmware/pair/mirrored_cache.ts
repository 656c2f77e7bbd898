/**
 * The write cache of an array that is a pair: the owner's own module, and the partner's copy of it, byte for byte.
 *
 *     alone ──attach──▶ asking ──attached──▶ copying (pages that differ, live stores between them) ──all there, the header last──▶ complete
 *     complete ──rely──▶ mirrored: a persist is done when both have it
 *     any ──detach, refused, the partner's cache fails──▶ alone
 *
 * The firmware above sees one `WriteCache`. While the copy is not relied upon, it sees a cache whose battery has failed, and does what
 * it does then: write-through, dirty data first.
 *
 * Invariants:
 * - Stores reach the partner in the order in which they were declared, those of a persist with it; what a page of the copy holds is
 *   sent as it is at that moment, and every later store follows.
 * - A persist that was begun while mirrored and whose partner is lost is done by the own module alone, but only after the listener
 *   has heard that the copy does not count any more.
 * - The copy's header is the last thing that is brought up to date, when every page is durable there: until then nobody takes it for a
 *   good one. Of a batch that the partner's medium had in hand when its power went, any part may be there.
 */
import type { Clock } from "../../hal/api/clock.ts";
import type { Digests } from "../../hal/api/digests.ts";
import type { BatteryState, PersistenceDomain, WriteCache } from "../../hal/api/write_cache.ts";
import { headerAreaBytes } from "../cache/nvram.ts";
import type { PairMessage } from "./frame.ts";
import { pairLimits } from "./limits.ts";
import { pageDigests } from "./page_digests.ts";
import { StoreRanges } from "./store_ranges.ts";

export type CopyState = "alone" | "asking" | "copying" | "complete" | "mirrored";

type PersistDone = (outcome: "persisted" | "failed") => void;

interface Waiting {
  /** The last one that brings what the persist covers. */
  readonly frame: number;
  /** null while the own module has not answered. */
  outcome: "persisted" | "failed" | null;
  readonly done: PersistDone;
}

export class MirroredCache implements WriteCache {
  readonly sizeBytes: number;
  readonly domain: PersistenceDomain;
  readonly memory: Uint8Array;
  readonly #local: WriteCache;
  readonly #clock: Clock;
  readonly #digests: Digests;
  readonly #stores = new StoreRanges();
  #state: CopyState = "alone";
  #send: ((message: PairMessage, payload: readonly Uint8Array[]) => void) | null = null;
  /** Frames of stores sent to the partner, and durable there. */
  #sentFrames = 0;
  #mirroredFrames = 0;
  #waiting: Waiting[] = [];
  #compareAt = 0;
  #compareUnderWay = 0;
  #copiedBytes = 0;
  /** The last frame before all pages were alike; -1: not all have been compared. */
  #lastOfPages = -1;
  /** The frame that brings the header; 0: not sent yet. */
  #lastOfCopy = 0;
  /** Stores go without a persist: there are many. */
  #isSendDue = false;
  #partnerBattery: BatteryState = "good";
  #shown: BatteryState = "good";
  #isTrusted = false;
  #batteryListener: (state: BatteryState) => void = () => {};
  /** The state has changed; `why`: what has ended it, or empty. */
  onState: (state: CopyState, why: string) => void = () => {};
  /** The own module's battery has failed, or is good again. */
  onLocalBattery: () => void = () => {};

  constructor(local: WriteCache, clock: Clock, digests: Digests) {
    this.#local = local;
    this.#clock = clock;
    this.#digests = digests;
    this.sizeBytes = local.sizeBytes;
    this.domain = local.domain;
    this.memory = local.memory;
    this.#shown = this.battery();
    local.onBattery(() => {
      this.onLocalBattery();
      this.#showBattery();
    });
  }

  get state(): CopyState {
    return this.#state;
  }

  /** How much of the cache has been compared or sent, and how much there is. */
  get progress(): { readonly doneBytes: number; readonly totalBytes: number } {
    return { doneBytes: Math.min(this.#copiedBytes, this.sizeBytes), totalBytes: this.sizeBytes };
  }

  /** The own module's. */
  localBattery(): BatteryState {
    return this.#local.battery();
  }

  /** Why `battery` says `failed`; a clause. */
  whyUnsafe(): string {
    if (this.#local.battery() === "failed") return "the write cache's battery has failed";
    if (this.#state === "mirrored") return "the battery of the partner's write cache has failed";
    return "the partner's copy of the write cache is missing or not complete";
  }

  /** What `good` means; a clause. */
  whySafe(): string {
    if (!this.#isTrusted) return "the write cache is good again and every copy of it is complete";
    return "the write cache has no copy, and the profile wants write-back all the same: what is acknowledged is lost with it";
  }

  // ---------------------------------------------------------------- WriteCache

  /** `good`: what a persist has covered survives the loss of either partner, and of the power; where it is trusted alone, of the power. */
  battery(): BatteryState {
    const isCopied = this.#state === "mirrored" && this.#partnerBattery === "good";
    return (isCopied || this.#isTrusted) && this.#local.battery() === "good" ? "good" : "failed";
  }

  /** The operator has chosen to write back without a copy, and this cache is the only good one. */
  get isTrusted(): boolean {
    return this.#isTrusted;
  }

  /** From now on what is persisted here alone counts; only while there is no copy, and none is begun. */
  trust(): void {
    if (this.#state !== "alone") return;
    this.#isTrusted = true;
    this.#showBattery();
  }

  /** Ends `trust`: the next acknowledgement waits for the shelf. */
  distrust(): void {
    this.#isTrusted = false;
    this.#showBattery();
  }

  onBattery(listener: (state: BatteryState) => void): void {
    this.#batteryListener = listener;
  }

  wrote(offsetBytes: number, lengthBytes: number): void {
    this.#local.wrote(offsetBytes, lengthBytes);
    if (lengthBytes === 0 || !this.#isStreaming()) return;
    // The header goes last.
    const isHeaderDue = this.#state === "copying" && this.#lastOfCopy === 0;
    const end = offsetBytes + lengthBytes;
    const start = isHeaderDue ? Math.max(offsetBytes, headerAreaBytes) : offsetBytes;
    if (start >= end) return;
    this.#stores.add(start, end - start);
    // Nobody persists while the cache is written through.
    if (this.#stores.count < pairLimits.rangesMax || this.#isSendDue) return;
    this.#isSendDue = true;
    this.#clock.defer(() => {
      this.#isSendDue = false;
      if (this.#isStreaming()) this.#sendStores();
    });
  }

  persist(done: PersistDone): void {
    if (!this.#isStreaming()) return this.#local.persist(done);
    this.#sendStores();
    if (this.#state !== "mirrored") return this.#local.persist(done);
    const waiting: Waiting = { frame: this.#sentFrames, outcome: null, done };
    this.#waiting.push(waiting);
    this.#local.persist((outcome) => {
      waiting.outcome = outcome;
      this.#settle();
    });
  }

  // ---------------------------------------------------------------- the copy

  /** Begins to bring the partner's copy up to date. `nonce`: of the own cache. */
  attach(nonce: string | null, send: (message: PairMessage, payload: readonly Uint8Array[]) => void): void {
    if (this.#state !== "alone") return;
    this.#begin(send);
    this.#send?.({ kind: "attach", nonce }, []);
    this.#setState("asking", "");
  }

  /** The partner's copy is known to be the same to the last byte: it had been the owner's until now. */
  adopt(send: (message: PairMessage, payload: readonly Uint8Array[]) => void): void {
    if (this.#state !== "alone") return;
    this.#begin(send);
    this.#copiedBytes = this.sizeBytes;
    this.#setState("mirrored", "");
  }

  /** The shelf says now that the caches are needed: from here on a persist waits for both. */
  rely(): void {
    if (this.#state === "complete") this.#setState("mirrored", "");
  }

  /** The partner is gone, or follows no more. */
  detach(why: string): void {
    if (this.#state === "alone") return;
    this.#send = null;
    this.#stores.clear();
    this.#setState("alone", why);
  }

  setPartnerBattery(state: BatteryState): void {
    this.#partnerBattery = state;
    this.#showBattery();
  }

  /** What the partner answers. */
  onMessage(message: PairMessage): void {
    if (this.#state === "alone") return;
    if (message.kind === "mirrored") {
      this.#mirroredFrames = Math.max(this.#mirroredFrames, message.frame);
      this.#bringHeader();
      if (this.#state === "copying" && this.#lastOfCopy > 0 && this.#mirroredFrames >= this.#lastOfCopy)
        this.#setState("complete", "");
      this.#settle();
    } else if (message.kind === "attached") {
      if (this.#state !== "asking") return;
      if (message.refusal !== "") return this.detach(message.refusal);
      this.#setState("copying", "");
      this.#compareMore();
    } else if (message.kind === "differs") {
      if (this.#state === "copying") this.#copySlice(message.offset, message.pages);
    } else if (message.kind === "mirrorFailed") {
      this.detach(message.text);
    }
  }

  #begin(send: (message: PairMessage, payload: readonly Uint8Array[]) => void): void {
    this.#send = send;
    this.#sentFrames = 0;
    this.#mirroredFrames = 0;
    this.#compareAt = 0;
    this.#compareUnderWay = 0;
    this.#copiedBytes = 0;
    this.#lastOfPages = -1;
    this.#lastOfCopy = 0;
    this.#stores.clear();
  }

  #isStreaming(): boolean {
    return this.#state === "copying" || this.#state === "complete" || this.#state === "mirrored";
  }

  #sendStores(): void {
    this.#stores.take(pairLimits.rangesMax, pairLimits.payloadBytesMax, (offsets, lengths) =>
      this.#sendRanges(offsets, lengths),
    );
  }

  #sendRanges(offsets: readonly number[], lengths: readonly number[]): void {
    const parts = offsets.map((offset, index) => this.memory.subarray(offset, offset + lengths[index]!));
    this.#send?.({ kind: "mirror", frame: ++this.#sentFrames, offsets, lengths }, parts);
  }

  /** Compares slice by slice; the page with the header is left for the end. */
  #compareMore(): void {
    const { comparePageBytes, comparePagesMax, compareSlicesMax } = pairLimits;
    while (this.#compareUnderWay < compareSlicesMax && this.#compareAt < this.sizeBytes) {
      const offset = this.#compareAt;
      const payload = pageDigests(this.memory, offset, comparePageBytes, comparePagesMax, this.#digests);
      // Stores that were declared before the digests must be there before them as well.
      this.#sendStores();
      this.#send?.({ kind: "compare", offset, pageBytes: comparePageBytes }, [payload]);
      this.#compareAt += comparePageBytes * comparePagesMax;
      this.#compareUnderWay++;
    }
    if (this.#compareUnderWay > 0 || this.#lastOfPages >= 0) return;
    this.#lastOfPages = this.#sentFrames;
    this.#bringHeader();
  }

  /** When the partner has made all pages durable. */
  #bringHeader(): void {
    const isDue = this.#state === "copying" && this.#lastOfPages >= 0 && this.#lastOfCopy === 0;
    if (!isDue || this.#mirroredFrames < this.#lastOfPages) return;
    this.#stores.add(0, headerAreaBytes);
    this.#sendStores();
    this.#lastOfCopy = this.#sentFrames;
  }

  #copySlice(offset: number, pages: readonly number[]): void {
    const { comparePageBytes, comparePagesMax } = pairLimits;
    for (const page of pages) {
      const start = Math.max(headerAreaBytes, offset + page * comparePageBytes);
      const end = Math.min(this.sizeBytes, offset + (page + 1) * comparePageBytes);
      if (start < end) this.#sendRanges([start], [end - start]);
    }
    this.#copiedBytes += comparePageBytes * comparePagesMax;
    this.#compareUnderWay--;
    this.#compareMore();
  }

  #settle(): void {
    for (;;) {
      const first = this.#waiting[0];
      if (first === undefined || first.outcome === null) return;
      const isThere = this.#state !== "mirrored" || first.frame <= this.#mirroredFrames;
      if (!isThere && first.outcome === "persisted") return;
      this.#waiting.shift();
      first.done(first.outcome);
    }
  }

  #setState(state: CopyState, why: string): void {
    this.#state = state;
    this.#isTrusted = false;
    this.onState(state, why);
    this.#showBattery();
    // Whoever waits hears of it after the listener, and not in the midst of what that one does.
    if (state === "alone") this.#clock.defer(() => this.#settle());
  }

  #showBattery(): void {
    const state = this.battery();
    if (state === this.#shown) return;
    this.#shown = state;
    this.#batteryListener(state);
  }
}
