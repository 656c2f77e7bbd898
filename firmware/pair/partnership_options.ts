/** What a partnership is made of, and what it starts. */
import type { Hal } from "../../hal/api/hal.ts";
import type { Disk } from "../../hal/api/shelf.ts";
import type { StartOutcome } from "../appliance.ts";
import type { PairConfig } from "../manage/board_profile.ts";
import type { EventSink } from "../manage/events.ts";
import type { HostFront } from "./host_front.ts";
import type { HalfNumber } from "./limits.ts";
import type { PairPort } from "./pair_port.ts";
import type { PartnerFence } from "./partner_fence.ts";
import type { ReadLease } from "./read_lease.ts";

export interface PartnershipOptions {
  readonly hal: Hal;
  readonly array: string;
  readonly appliance: string;
  readonly half: HalfNumber;
  /** `preferred`: for this half. */
  readonly pair: PairConfig;
  /** Where both would switch each other off, this appliance is the one that does. */
  readonly fencesFirst: boolean;
  /** Of the appliance, for both halves. */
  readonly fence: PartnerFence;
  /** Of the appliance; null: the fence kills, and whoever lives has not been taken over from. */
  readonly lease: ReadLease | null;
  readonly events: EventSink;
  /** Serves hosts at this appliance's ports, wherever the array is owned. */
  readonly front: HostFront;
  /** The half has been served since the process began, here or by the partner. */
  wasServed(): boolean;
  /** Starts the array's firmware on `hal`. */
  open(hal: Hal, pair: PairPort): Promise<StartOutcome>;
  /** The disk has refused something as it refuses the evicted. `isNeeded`: the firmware of the half cannot do without. */
  refusedBy(disk: Disk, isNeeded: boolean): void;
  /** The half cannot be served here; `text` says why. `isFatal`: the process must end, whatever else it serves. */
  end(text: string, isFatal: boolean): void;
}

export type Engine = Extract<StartOutcome, { ok: true }>;
