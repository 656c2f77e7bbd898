/**
 * An open volume of a seat, as the front ends have it: what they have asked for comes back to them whatever becomes of the seat.
 *
 * Invariants:
 * - The seat has requests of its own (`RelayRequest`), never those of the front ends: one that ends late, or never, disturbs nobody.
 * - Every request of a front end is done once: by the seat, or at `settle` with the error "closed".
 * - A seat that has been left is asked for nothing, also through a target at which nothing was under way when it was left: what it
 *   could still read at once is memory that is the next owner's by then.
 */
import type { BlockRequest, BlockTarget } from "../volume/block_request.ts";
import { noBytes, PlainRequest } from "../volume/plain_request.ts";

function relayDone(request: BlockRequest): void {
  const relay = request as RelayRequest;
  relay.owner?.done(relay);
}

class RelayRequest extends PlainRequest {
  owner: FrontTarget | null = null;
  outer: BlockRequest | null = null;

  constructor() {
    super(relayDone);
  }
}

/** Kept at most: 1,024 objects of about 200 bytes. */
const keptMax = 1024;
const kept: RelayRequest[] = [];
const noPayload: readonly Uint8Array[] = [];

/** One seat, as long as it is not left. */
export interface Stay {
  isOver: boolean;
}

/** Who keeps the targets of a seat together. */
export interface TargetKeeper {
  /** The present one. */
  readonly stay: Stay;
  /** Something is under way at the target. */
  busy(target: FrontTarget): void;
  /** Nothing is. */
  idle(target: FrontTarget): void;
}

export class FrontTarget implements BlockTarget {
  readonly uuid: string;
  readonly lendsReads: boolean;
  readonly #inner: BlockTarget;
  readonly #keeper: TargetKeeper;
  readonly #stay: Stay;
  readonly #closed: () => void;
  readonly #underWay = new Set<RelayRequest>();
  #ended: ((reason: string, isLost: boolean) => void) | null = null;
  #state: "open" | "left" | "closed" = "open";

  /** `uuid`: of the volume; empty where its logical unit knows that. */
  constructor(inner: BlockTarget, keeper: TargetKeeper, uuid: string, closed: () => void = () => {}) {
    this.uuid = uuid;
    this.lendsReads = inner.lendsReads;
    this.#inner = inner;
    this.#keeper = keeper;
    this.#stay = keeper.stay;
    this.#closed = closed;
  }

  get name(): string {
    return this.#inner.name;
  }

  blockCount(): number {
    return this.#inner.blockCount();
  }

  readOnly(): boolean {
    return this.#inner.readOnly();
  }

  atomicBlocksMax(): number {
    return this.#inner.atomicBlocksMax();
  }

  get #isOpen(): boolean {
    return this.#state === "open" && !this.#stay.isOver;
  }

  tryRead(startLba: number, target: Uint8Array): boolean {
    return this.#isOpen && this.#inner.tryRead(startLba, target);
  }

  submit(request: BlockRequest): void {
    if (!this.#isOpen) {
      request.error = "closed";
      return request.onDone(request);
    }
    const relay = kept.pop() ?? new RelayRequest();
    relay.owner = this;
    relay.outer = request;
    relay.kind = request.kind;
    relay.startLba = request.startLba;
    relay.blockCount = request.blockCount;
    relay.payload = request.payload;
    relay.target = request.target;
    relay.keepAllocated = request.keepAllocated;
    relay.atomic = request.atomic;
    relay.error = null;
    this.#underWay.add(relay);
    if (this.#underWay.size === 1) this.#keeper.busy(this);
    this.#inner.submit(relay);
  }

  done(relay: RelayRequest): void {
    const request = relay.outer!;
    request.error = relay.error;
    if (this.lendsReads) request.target = relay.target;
    request.miscompareOffset = relay.miscompareOffset;
    if (relay.extents.length > 0) {
      request.extents = relay.extents;
      relay.extents = [];
    }
    this.#underWay.delete(relay);
    if (this.#underWay.size === 0) this.#keeper.idle(this);
    relay.owner = null;
    relay.outer = null;
    relay.payload = noPayload;
    relay.target = noBytes;
    if (kept.length < keptMax) kept.push(relay);
    request.onDone(request);
  }

  onEnded(listener: (reason: string, isLost: boolean) => void): void {
    this.#ended = listener;
    this.#inner.onEnded((reason, isLost) => {
      if (this.#state === "open") listener(reason, isLost);
    });
  }

  close(): void {
    if (this.#state === "open") this.#inner.close();
    this.#state = "closed";
    this.#closed();
  }

  /** Its session is to break off; what is under way is still done by the seat. */
  breakOff(): void {
    if (this.#state === "open") this.#ended?.("the volume moves to the partner", true);
  }

  /** The seat is left: nothing goes down any more, and what comes up is not heard. */
  leave(): void {
    if (this.#state === "open") {
      this.#state = "left";
      this.#ended?.("the volume is served elsewhere from now on", true);
    }
    for (const relay of this.#underWay) relay.owner = null;
  }

  /** The seat touches nothing any more: what was under way comes to nothing. */
  settle(): void {
    const lost = [...this.#underWay];
    this.#underWay.clear();
    for (const { outer } of lost) {
      outer!.error = "closed";
      outer!.onDone(outer!);
    }
  }
}
