/** What the JSON API serves: the appliance's rooms behind the `Control` contract. */
import type { Hal } from "../../hal/api/hal.ts";
import type { ApplianceConfig } from "../appliance.ts";
import type { Nvram } from "../cache/nvram.ts";
import type { PairPort } from "../pair/pair_port.ts";
import type { Pool } from "../store/store.ts";
import {
  type Control,
  done,
  type GroupControl,
  type HostControl,
  type PairControl,
  type Result,
  refused,
  type ScrubJson,
  type VolumeControl,
} from "./control.ts";
import type { EventSink } from "./events.ts";
import { GroupCommands } from "./group_commands.ts";
import type { GroupRegistry } from "./groups.ts";
import {
  cacheJson,
  disksJson,
  type HardwareParts,
  hardwareWarnings,
  poolsJson,
  shelvesJson,
} from "./hardware_report.ts";
import type { HostRegistry } from "./hosts.ts";
import { roleWarnings } from "./role_warnings.ts";
import { scrubGroups } from "./scrub.ts";
import type { CacheJson, DiskJson, PeerArrayJson, PoolJson, ShelfJson, StatusJson } from "./status_json.ts";
import { VolumeCommands } from "./volume_commands.ts";

export interface ControlParts {
  readonly hal: Hal;
  readonly config: ApplianceConfig;
  readonly events: EventSink;
  readonly pool: Pool;
  readonly nvram: Nvram;
  readonly groups: GroupRegistry;
  readonly hosts: HostRegistry;
  readonly version: string;
  /** No new sessions, and the open ones end. */
  stopServing(): void;
  /** Everything has gone home, as far as the shelf took it. */
  stopped(): Promise<void>;
  /** null: an array of one appliance. */
  readonly pair: PairPort | null;
}

/** An array has one pool in this version. */
const poolName = "pool0";

export class ApplianceControl implements Control {
  readonly volumes: VolumeControl;
  readonly groups: GroupControl;
  readonly hosts: HostControl;
  readonly pair: PairControl | null;
  readonly #parts: ControlParts;
  readonly #hardware: HardwareParts;
  readonly #groupCommands: GroupCommands;
  #stopping: Promise<void> | null = null;
  #scrubbing = false;

  constructor(parts: ControlParts) {
    this.#parts = parts;
    const { hal, pool, nvram, groups, hosts, config, pair } = parts;
    const { appliance } = config.array;
    const battery = () => pair?.mirror.localBattery() ?? hal.cache.battery();
    const isAtRisk = () => pair?.mirror.isTrusted === true;
    this.#hardware = { hal, pool, poolName, nvram, groups, appliance, battery, isAtRisk };
    this.volumes = new VolumeCommands({ groups, hosts, entropy: hal.entropy, poolName });
    this.#groupCommands = new GroupCommands({ groups, appliance });
    this.groups = this.#groupCommands;
    this.hosts = hosts;
    this.pair = parts.pair;
  }

  status(): StatusJson {
    const { config, version, pair } = this.#parts;
    const cache = cacheJson(this.#hardware);
    const list = this.#groupCommands.list();
    const settled = list.every((group) => group.settled);
    return {
      array: config.array.name,
      appliance: config.array.appliance,
      version,
      appliances: [
        {
          name: config.array.appliance,
          state: settled ? "up" : "starting",
          battery: cache.battery,
          cacheDirtyBytes: cache.dirtyBytes,
          cacheBytes: cache.sizeBytes,
        },
        ...(pair === null ? [] : [pair.partnerJson()]),
      ],
      pair: pair === null ? null : { state: pair.status().state, partner: pair.partner },
      groups: list,
      warnings: [...hardwareWarnings(this.#hardware), ...(pair?.warnings() ?? []), ...roleWarnings(list)],
    };
  }

  peers(): PeerArrayJson[] {
    return this.#parts.groups.peers();
  }

  shelves(): ShelfJson[] {
    return shelvesJson(this.#hardware);
  }

  disks(): DiskJson[] {
    return disksJson(this.#hardware);
  }

  pools(): PoolJson[] {
    return poolsJson(this.#hardware);
  }

  async scrub(pool: string): Promise<Result<ScrubJson>> {
    if (pool !== poolName) return refused("not-found", `there is no pool ${pool}; this array's pool is ${poolName}`);
    if (this.#scrubbing) return refused("busy", "a scrub of this pool is running; wait for its end");
    this.#scrubbing = true;
    const report = await scrubGroups(this.#parts.groups.all(), this.#parts.events);
    this.#scrubbing = false;
    return done(report);
  }

  caches(): CacheJson[] {
    return [cacheJson(this.#hardware)];
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    const { events, groups, config } = this.#parts;
    events.emit("appliance-stopping", `${config.array.appliance} stops: sessions close, everything goes home`);
    this.#parts.stopServing();
    await groups.stop();
    await this.#parts.stopped();
    events.emit("appliance-stopped", `${config.array.appliance} has stopped in order`);
  }
}
