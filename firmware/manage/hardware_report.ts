/** What `goldcopy shelf | disk | pool | cache` show. */
import type { Hal } from "../../hal/api/hal.ts";
import type { BatteryState } from "../../hal/api/write_cache.ts";
import type { Nvram } from "../cache/nvram.ts";
import type { Pool } from "../store/store.ts";
import { damagedText, type GroupRegistry } from "./groups.ts";
import type { CacheJson, DiskJson, PoolJson, ShelfJson, WarningJson } from "./status_json.ts";

export interface HardwareParts {
  readonly hal: Hal;
  readonly pool: Pool;
  readonly poolName: string;
  readonly nvram: Nvram;
  readonly groups: GroupRegistry;
  readonly appliance: string;
  /** Of the appliance's own module. */
  battery(): BatteryState;
  /** What is acknowledged is in the appliance's own module alone, and was to be in two. */
  isAtRisk(): boolean;
}

export function shelvesJson({ hal, pool }: HardwareParts): ShelfJson[] {
  return hal.shelves.map((shelf) => ({
    name: shelf.name,
    fencing: shelf.fencing,
    slots: shelf.disks.length,
    disksInUse: pool.disks().filter((disk) => disk.place.startsWith(`${shelf.name}/`) && disk.state === "in-use")
      .length,
    sizeBytes: shelf.disks.reduce((sum, disk) => sum + (disk?.sizeBytes ?? 0), 0),
  }));
}

export function disksJson({ hal, pool }: HardwareParts): DiskJson[] {
  const sizes = new Map(
    hal.shelves.flatMap((shelf) =>
      shelf.disks.flatMap((disk) => (disk === null ? [] : [[disk.place, disk.sizeBytes] as const])),
    ),
  );
  return pool.disks().map((disk) => ({ ...disk, sizeBytes: sizes.get(disk.place) ?? null }));
}

export function poolsJson({ pool, poolName, groups }: HardwareParts): PoolJson[] {
  const usage = pool.usage();
  return [
    {
      name: poolName,
      totalBytes: usage.totalBytes,
      freeBytes: usage.freeBytes,
      groups: groups.all().map((group) => ({ name: group.name, ...group.store.usage() })),
    },
  ];
}

export function cacheJson({ hal, groups, appliance, battery, isAtRisk }: HardwareParts): CacheJson {
  const dirtyBytes = groups.all().reduce((sum, group) => sum + group.destager.dirtyBytes, 0);
  return {
    appliance,
    persistence: hal.cache.domain,
    battery: battery(),
    mode: groups.cacheHealthy ? "write-back" : "write-through",
    sizeBytes: hal.cache.sizeBytes,
    dirtyBytes,
    cacheAtRiskBytes: isAtRisk()
      ? dirtyBytes
      : groups.all().reduce((sum, group) => sum + group.writeThrough.atRiskBytes, 0),
  };
}

/** A pool with less than this share free is worth a warning. */
const lowShare = 0.1;

export function hardwareWarnings(parts: HardwareParts): WarningJson[] {
  const warnings: WarningJson[] = [];
  for (const disk of parts.pool.disks()) {
    if (disk.state !== "in-use" && disk.state !== "blank")
      warnings.push({ code: `disk-${disk.state}`, text: `${disk.place}: ${disk.text}` });
  }
  const cache = cacheJson(parts);
  if (cache.battery === "failed")
    warnings.push({ code: "battery-failed", text: "the write cache's battery has failed; replace it" });
  if (parts.nvram.failed)
    warnings.push({
      code: "cache-persist-failed",
      text: `${parts.appliance}'s write cache has failed to persist what it was given; replace it, and restart ${parts.appliance}`,
    });
  if (cache.mode === "write-through") {
    const risk = cache.cacheAtRiskBytes > 0 ? `; ${cache.cacheAtRiskBytes} acknowledged bytes lie in it alone` : "";
    warnings.push({ code: "write-through", text: `every acknowledgement waits for the shelf${risk}` });
  }
  warnings.push(...poolWarnings(parts));
  for (const damaged of parts.groups.damaged) warnings.push({ code: "group-damaged", text: damagedText(damaged) });
  for (const name of parts.groups.namesTwice())
    warnings.push({
      code: "volume-name-twice",
      text: `volumes of two groups are called ${name}: hosts get the one that this array is primary of; rename one by copying it`,
    });
  for (const { group, replication } of parts.groups.entries()) {
    // What has stopped stays so until a restart, though the shelf may take data again.
    if (replication.failure !== null)
      warnings.push({
        code: "shelf-trouble",
        text: `group ${group.name} has stopped: ${replication.failure}; when the disk works again, restart the appliance`,
      });
    else if (group.shelfTrouble !== null)
      warnings.push({
        code: "shelf-trouble",
        text: `group ${group.name}: the shelf does not take its data, which stays in the log (${group.shelfTrouble}); when the disk works again, restart the appliance`,
      });
    if (group.cacheWasLost)
      warnings.push({
        code: "cache-lost",
        text: `group ${group.name}: the write cache or the log was lost with writes in it, its root is not the newest, or a stale disk was used; its image is inconsistent`,
      });
  }
  return warnings;
}

/** A write that was refused so long ago is not news any more. */
const refusedMs = 60_000;

function poolWarnings({ pool, poolName, groups, hal }: HardwareParts): WarningJson[] {
  const refusing = groups.all().filter((group) => hal.clock.nowMs() - group.poolFull.refusedMs < refusedMs);
  if (refusing.length > 0) {
    const names = refusing.map((group) => group.name).join(", ");
    const text = `pool ${poolName} is full: what ${names} would need new space for is refused (hosts get ENOSPC) or waits (golden copies); delete volumes, or trim on the hosts`;
    return [{ code: "pool-full", text }];
  }
  const { totalBytes, freeBytes } = pool.usage();
  if (freeBytes >= totalBytes * lowShare) return [];
  const text = `pool ${poolName} has ${freeBytes} of ${totalBytes} bytes free; delete volumes, or trim on the hosts`;
  return [{ code: "pool-low", text }];
}
