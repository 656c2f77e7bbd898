/** One connection to a volume over one path: carries data both ways, and tells of everything that goes wrong. */
import type { Place } from "../load/plan.ts";

/** `again`: nothing is wrong with the volume or the path, the request is to be repeated (unit attention, busy). */
export type Refusal = "again" | "error";

export interface PathEvents {
  /** `data` belongs to the slot until its next request; null: it was a write. */
  answered(slot: number, data: Uint8Array | null): void;
  refused(slot: number, refusal: Refusal, text: string): void;
  /** All that has arrived has been handled: what is due now can go out together. */
  handled(): void;
  /** Once; nothing comes behind it. What is unanswered stays so. */
  broken(why: string): void;
}

export interface PathShape {
  readonly place: Place;
  readonly blockBytes: number;
  readonly depth: number;
  /** Which of the host's paths, from 0. */
  readonly index: number;
}

export interface PathClient {
  /** The volume's size; rejects when the path does not lead to it. */
  open(): Promise<number>;
  /** Go out with the next `push`. The slot is free; `payload` may be reused at once. */
  read(slot: number, offsetBytes: number): void;
  write(slot: number, offsetBytes: number, payload: Uint8Array): void;
  push(): void;
  /** Without a goodbye; no event comes afterwards. */
  drop(): void;
}
