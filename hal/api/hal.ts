import type { Clock } from "./clock.ts";
import type { Digests } from "./digests.ts";
import type { Entropy } from "./entropy.ts";
import type { HbaPort } from "./hba.ts";
import type { Heartbeats } from "./heartbeats.ts";
import type { Nic } from "./nic.ts";
import type { PowerPort } from "./power.ts";
import type { ServiceAddress } from "./service_address.ts";
import type { Shelf } from "./shelf.ts";
import type { Witness } from "./witness.ts";
import type { WriteCache } from "./write_cache.ts";

/** The hardware of one appliance, as its board profile describes it. */
export interface Hal {
  readonly clock: Clock;
  readonly entropy: Entropy;
  readonly digests: Digests;
  readonly hbaPorts: readonly HbaPort[];
  readonly nics: readonly Nic[];
  /** Of a pair, over its NICs; null: this hardware is of no pair. */
  readonly heartbeats: Heartbeats | null;
  /** Of a pair: what moves with the array. */
  readonly serviceAddresses: readonly ServiceAddress[];
  readonly cache: WriteCache;
  readonly shelves: readonly Shelf[];
  readonly power: PowerPort | null;
  readonly witness: Witness | null;
}
