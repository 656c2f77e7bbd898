/** What an appliance gives to the replication of its groups: who it is, whom it knows, and connections. */
import type { Clock } from "../../hal/api/clock.ts";
import type { Entropy } from "../../hal/api/entropy.ts";
import type { EventSink } from "../manage/events.ts";
import type { DialOwner } from "./dialler.ts";
import type { ReplicationSettings } from "./limits.ts";

export interface LinkHost {
  readonly clock: Clock;
  readonly entropy: Entropy;
  readonly events: EventSink;
  readonly settings: ReplicationSettings;
  readonly array: { readonly name: string; readonly id: string };
  readonly appliance: string;
  /** 32 hex digits, new at every start. */
  readonly session: string;
  /** Whether `array` is a configured peer of this one. */
  knows(array: string): boolean;
  /** A dialler for all of a peer array's addresses; not started. */
  dialler(array: string, owner: DialOwner): { start(): void; hurry(): void; stop(): void };
  /** An event that is worth telling once, until `forget` is called with its key. */
  tellOnce(key: string, tell: () => void): void;
  forget(key: string): void;
}
