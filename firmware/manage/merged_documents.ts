/** The documents of an array whose halves have each their own: put together, so that they look like one array's. */
import type { ScrubJson } from "./control.ts";
import type {
  ApplianceJson,
  CacheJson,
  HostJson,
  PairStatusJson,
  PeerArrayJson,
  PoolJson,
  StatusJson,
  WarningJson,
} from "./status_json.ts";

interface MergedList {
  /** The field that names an item. */
  readonly key: string;
  readonly what: string;
  merge(lists: readonly (readonly unknown[])[]): unknown[];
  /** Of an operation that runs on every half. */
  mergeResults?(results: readonly never[]): unknown;
}

function byKey(key: string): (lists: readonly (readonly unknown[])[]) => unknown[] {
  const of = (item: unknown) => String((item as Record<string, unknown>)[key]);
  return (lists) => lists.flat().sort((a, b) => (of(a) < of(b) ? -1 : 1));
}

/** Items of the same name become one. */
function joinedBy<T>(
  key: keyof T,
  join: (one: T, other: T) => T,
): (lists: readonly (readonly unknown[])[]) => unknown[] {
  return (lists) => {
    const items = new Map<unknown, T>();
    for (const item of lists.flat() as T[]) {
      const known = items.get(item[key]);
      items.set(item[key], known === undefined ? item : join(known, item));
    }
    return [...items.values()];
  };
}

const first = (lists: readonly (readonly unknown[])[]): unknown[] => [...lists[0]!];

/** By the plural in the path. */
export const mergedLists: Readonly<Record<string, MergedList>> = {
  volumes: { key: "name", what: "volume", merge: byKey("name") },
  groups: { key: "name", what: "group", merge: byKey("name") },
  hosts: {
    key: "name",
    what: "host",
    merge: joinedBy<HostJson>("name", (one, other) => ({
      ...one,
      mappings: [...one.mappings, ...other.mappings].sort((a, b) => a.lun - b.lun),
    })),
  },
  peers: {
    key: "array",
    what: "peer array",
    merge: joinedBy<PeerArrayJson>("array", (one, other) => {
      const isOther = other.connected && !one.connected;
      return isOther || (one.lastHeardMs === null && other.lastHeardMs !== null) ? other : one;
    }),
  },
  shelves: { key: "name", what: "shelf", merge: first },
  disks: { key: "place", what: "disk", merge: first },
  pools: {
    key: "name",
    what: "pool",
    merge: joinedBy<PoolJson>("name", (one, other) => ({
      ...one,
      totalBytes: one.totalBytes + other.totalBytes,
      freeBytes: one.freeBytes + other.freeBytes,
      groups: [...one.groups, ...other.groups],
    })),
    mergeResults: (reports: readonly ScrubJson[]): ScrubJson => ({
      intact: reports.every(({ intact }) => intact),
      checkedBytes: sum(reports.map(({ checkedBytes }) => checkedBytes)),
      damagedBlocks: sum(reports.map(({ damagedBlocks }) => damagedBlocks)),
      damaged: reports.flatMap(({ damaged }) => damaged),
    }),
  },
  caches: {
    key: "appliance",
    what: "appliance with a cache",
    merge: joinedBy<CacheJson>("appliance", (one, other) => ({
      ...one,
      mode: one.mode === "write-through" ? one.mode : other.mode,
      sizeBytes: one.sizeBytes + other.sizeBytes,
      dirtyBytes: one.dirtyBytes + other.dirtyBytes,
      cacheAtRiskBytes: one.cacheAtRiskBytes + other.cacheAtRiskBytes,
    })),
  },
};

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

/** From good to bad. */
const applianceStates: readonly ApplianceJson["state"][] = ["up", "starting", "down"];
const pairStatesFromGood: readonly PairStatusJson["state"][] = [
  "mirrored",
  "copying",
  "degraded",
  "isolated",
  "starting",
];

function worst<T>(fromGood: readonly T[], states: readonly T[]): T {
  return states.reduce((bad, state) => (fromGood.indexOf(state) > fromGood.indexOf(bad) ? state : bad));
}

export function mergeStatus(
  statuses: readonly StatusJson[],
  self: {
    readonly appliance: string;
    readonly partner: string;
    readonly state: PairStatusJson["state"];
    /** Of the pair, as either appliance sees it. */
    readonly warnings: readonly WarningJson[];
  },
): StatusJson {
  const { appliance, partner, state } = self;
  const appliances = [appliance, partner].map((name): ApplianceJson => {
    const all = statuses.flatMap((status) => status.appliances.filter((one) => one.name === name));
    return {
      name,
      state: worst(
        applianceStates,
        all.map((one) => one.state),
      ),
      battery: all.some(({ battery }) => battery === "failed")
        ? "failed"
        : (all.find(({ battery }) => battery !== "unknown")?.battery ?? "unknown"),
      cacheDirtyBytes: sum(all.map(({ cacheDirtyBytes }) => cacheDirtyBytes)),
      cacheBytes: sum(all.map(({ cacheBytes }) => cacheBytes)),
    };
  });
  return {
    ...statuses[0]!,
    appliance,
    appliances,
    pair: { state, partner },
    groups: mergedLists["groups"]!.merge(statuses.map(({ groups }) => groups)) as StatusJson["groups"],
    warnings: once([...statuses.flatMap(({ warnings }) => warnings), ...self.warnings]),
  };
}

/** Each text is told once. */
export function once(warnings: readonly WarningJson[]): WarningJson[] {
  const texts = new Map(warnings.map((warning) => [`${warning.code} ${warning.text}`, warning]));
  return [...texts.values()];
}

export function mergePairStatus(halves: readonly PairStatusJson[]): PairStatusJson {
  const [one] = halves;
  return {
    ...one!,
    state: worst(
      pairStatesFromGood,
      halves.map(({ state }) => state),
    ),
    copiedBytes: sum(halves.map(({ copiedBytes }) => copiedBytes)),
    cacheBytes: sum(halves.map(({ cacheBytes }) => cacheBytes)),
    nics: one!.nics.map(({ name }) => ({
      name,
      up: halves.every(({ nics }) => nics.some((nic) => nic.name === name && nic.up)),
    })),
    halves: halves.flatMap((half) => half.halves),
    writesBackAlone: halves.some(({ writesBackAlone }) => writesBackAlone),
    warnings: once(halves.flatMap(({ warnings }) => warnings)),
  };
}

/** Everything that helps to understand the array from afar. */
export function mergeSupport(
  bundles: readonly Record<string, unknown>[],
  status: StatusJson,
  pair: PairStatusJson,
): Record<string, unknown> {
  const merged: Record<string, unknown> = { ...bundles[0], status, pair };
  for (const [noun, { merge }] of Object.entries(mergedLists)) {
    const lists = bundles.flatMap((bundle) => (Array.isArray(bundle[noun]) ? [bundle[noun] as unknown[]] : []));
    if (lists.length > 0) merged[noun] = merge(lists);
  }
  return merged;
}
