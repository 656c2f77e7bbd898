/**
 * One appliance: the rooms put together on a HAL. The same code runs on hardware and in simulation.
 *
 * A start: judge the shelf and the cache, open the pool, recover every group from its log, persist what was recovered, renew the
 * nonce, then let the peers settle the roles, and only then listen for hosts.
 */
import type { Hal } from "../hal/api/hal.ts";
import { entryOf, renewNonce } from "./cache/cache_opening.ts";
import { Nvram } from "./cache/nvram.ts";
import { poolRootId } from "./cache/root_notes.ts";
import { whenDone } from "./codec/promised.ts";
import type { TlsUse } from "./frontend/nbd/negotiation.ts";
import { TargetDevice } from "./frontend/scsi/target_device.ts";
import type { TargetPortGroup } from "./frontend/scsi/target_port_groups.ts";
import { HostServers } from "./host_servers.ts";
import { logLimits } from "./log/limits.ts";
import { cacheSlotsOf } from "./log/recovery.ts";
import { ApplianceControl } from "./manage/appliance_control.ts";
import { type CacheEntry, readArrayDocument } from "./manage/array_document.ts";
import { ArrayDocumentHolder } from "./manage/array_document_holder.ts";
import type { Control } from "./manage/control.ts";
import type { EventSink } from "./manage/events.ts";
import { ExportRegistry } from "./manage/exports.ts";
import { GroupTransfers } from "./manage/group_transfers.ts";
import { GroupRegistry, groupsHere } from "./manage/groups.ts";
import { HostRegistry } from "./manage/hosts.ts";
import { iscsiTargetName } from "./manage/iscsi_name.ts";
import { LunRegistry } from "./manage/luns.ts";
import { endMovedOn } from "./manage/moved_on.ts";
import { keptOverPowerLoss, ReservationKeeper } from "./manage/reservation_shelf.ts";
import { CopyKeeper } from "./pair/copy_keeper.ts";
import type { Directory } from "./pair/directory.ts";
import { type HalfNumber, pairLimits } from "./pair/limits.ts";
import type { PairPort } from "./pair/pair_port.ts";
import type { Seat } from "./pair/seat.ts";
import { cacheVerdict, judgeFound, mayCreate, openingTrouble, type StartFacts } from "./start_judgement.ts";
import { type OpenResult, openPool } from "./store/open_pool.ts";
import type { GroupClaim, Pool, StoreError } from "./store/store.ts";
import type { ChapCredentials } from "./volume/host_access.ts";

/** What the board profile says beside the hardware. */
export interface ApplianceConfig {
  readonly array: { readonly name: string; readonly appliance: string };
  readonly peers: readonly {
    readonly array: string;
    readonly appliances: readonly { readonly name: string; readonly addresses: readonly string[] }[];
  }[];
  readonly link: { readonly heartbeatMs: number; readonly peerTimeoutMs: number };
  readonly store?: { readonly slabBytes: number; readonly logSlotBytes: number; readonly mapCacheBytes: number };
  readonly shelfLogBytes?: number;
  readonly goldenAccess?: "none" | "read-only";
  /** Whether NBD hosts may, or have to, change over to TLS; off unless said. */
  readonly tls?: { readonly nbd: TlsUse };
  /** The target's name unless it is the array's own; what it proves of itself (mutual CHAP). */
  readonly iscsi?: { readonly targetName: string | null; readonly own: ChapCredentials | null };
  /** The operator's word that a wrong or lost cache is to be given up. */
  readonly acceptCacheLoss?: boolean;
  /** The operator's word that a stale disk is to be used as it is, without what it has missed. */
  readonly acceptStaleDisk?: boolean;
}

/** The array's volumes, as front ends serve them to hosts. */
export interface ArraySeat extends Seat {
  /** For the front ends of the partner. */
  directory(): Directory;
  /** Called when the directory has become another; some changes are seen by looking only. */
  onDirectory(listener: () => void): void;
  /** What `PairPort.portGroups` says is another: SCSI hosts are told, and served accordingly (`TargetDevice.portGroupsChanged`). */
  portGroupsChanged(): void;
}

export type StartOutcome =
  /** `groups` is for tests that look inside. */
  | {
      readonly ok: true;
      readonly control: Control;
      readonly groups: GroupRegistry;
      readonly seat: ArraySeat;
      /** Of a half of the array: groups and space go to the other half, and come from it. */
      readonly transfers: GroupTransfers;
      readonly pool: Pool;
    }
  /** What, why, and what to do, in one line. Nothing was overwritten. */
  | { readonly ok: false; readonly text: string };

export interface StartOptions {
  readonly hal: Hal;
  readonly config: ApplianceConfig;
  readonly events: EventSink;
  readonly version: string;
  /** Disks of the profile that the HAL could not open: `PLACE: why`. */
  readonly diskProblems?: readonly string[];
  /** The appliance owns the array of a pair; its HAL's cache is the mirrored one, and hosts are served by the pair's front ends. */
  readonly pair?: PairPort;
  /** Which half of the array; the array of one appliance is not divided. */
  readonly half?: HalfNumber;
  /** What the other half claims; null: nobody can tell. */
  readonly otherClaims?: () => Promise<readonly GroupClaim[] | null>;
}

/** All ports of a single appliance are alike. */
const singlePlace = { firstPort: 1, portalGroup: 1 };

/** 64 MiB slabs; a log slot holds the largest segment; 32 MiB of map pages are 24 GiB of mapped volume at hand. */
const storeDefaults = {
  slabBytes: 64 * 1024 * 1024,
  logSlotBytes: logLimits.segmentBytesMax,
  mapCacheBytes: 32 * 1024 * 1024,
};

export async function startAppliance(options: StartOptions): Promise<StartOutcome> {
  const { hal, config, events } = options;
  const { clock, entropy, digests } = hal;
  const nvram = new Nvram(hal.cache, clock, digests);
  const facts: StartFacts = {
    arrayName: config.array.name,
    appliance: config.array.appliance,
    partner: options.pair?.partner ?? null,
    cacheHeader: nvram.readHeader(),
    poolSaves: nvram.roots.numberOf(poolRootId),
    acceptCacheLoss: config.acceptCacheLoss === true,
    acceptStaleDisk: config.acceptStaleDisk === true,
    diskProblems: options.diskProblems ?? [],
  };
  const opened = await new Promise<OpenResult>((resolve) =>
    openPool(
      {
        clock,
        entropy,
        digests,
        shelves: hal.shelves,
        arrayName: config.array.name,
        format: { ...(config.store ?? storeDefaults), halves: options.half === undefined ? 1 : 2 },
        half: options.half ?? 0,
        createIfBlank: mayCreate(facts),
        takesStale: facts.acceptStaleDisk,
        admit: (found) => judgeFound(found, facts),
        saved: (generation) => nvram.roots.note(poolRootId, generation),
      },
      resolve,
    ),
  );
  if (!opened.ok) return refuse(events, openingTrouble(opened, facts));
  const { pool } = opened;
  for (const disk of pool.disks()) {
    if (disk.state !== "in-use")
      events.emit(`disk-${disk.state}`, `${disk.place}: ${disk.text}`, { place: disk.place });
  }
  const read = readArrayDocument(pool.arrayDocument());
  if (typeof read === "string") return refuse(events, read);
  const holder = new ArrayDocumentHolder(pool, read);

  const entry = () => entryOf(holder.document.caches, facts);
  const verdict = cacheVerdict(pool.arrayId, holder.document.caches, facts);
  if (verdict.kind === "refused" && !facts.acceptCacheLoss) return refuse(events, verdict.text);
  const cacheTrusted = verdict.kind === "trusted";
  if (!cacheTrusted) nvram.giveUp();
  const bySlot = cacheTrusted ? cacheSlotsOf(nvram, digests) : new Map<string, number[]>();
  const movedOn = await endMovedOn(pool, async () => (await options.otherClaims?.()) ?? null);
  if (movedOn.trouble !== null) return refuse(events, movedOn.trouble);
  for (const id of movedOn.ended)
    events.emit("group-moved-on", `group ${id} is the other half's by the later claim: it is not opened here`, {
      group: id,
    });
  // Of a group that was leaving the shelf has all (`group_transfers.ts`), wherever it is found to be.
  const here = new Set(groupsHere(pool));
  nvram.roots.keepOnly(new Set([...here, poolRootId]));
  nvram.setUsed(new Map([...bySlot].filter(([id]) => here.has(id))));

  const groups = new GroupRegistry({
    hal,
    pool,
    nvram,
    config,
    events,
    shelfLogBytes: config.shelfLogBytes ?? logLimits.shelfLogBytes,
    moreSpace: (done) => {
      if (options.pair === undefined) done(false);
      else void options.pair.moreSpace().then(done);
    },
    whySafe: () => options.pair?.mirror.whySafe() ?? "the write cache is good again",
    whyUnsafe: () => options.pair?.mirror.whyUnsafe() ?? "the write cache's battery has failed",
  });
  const diskWasStale = pool.disks().some(({ state }) => state === "stale");
  const trouble = await groups.openAll({ cacheTrusted, diskWasStale });
  if (trouble !== null) return refuse(events, trouble);
  const persisted = await new Promise<"persisted" | "failed">((resolve) => nvram.persistAll(resolve));
  if (persisted === "failed")
    return refuse(
      events,
      "the write cache cannot be persisted; start again, and only if it goes on failing replace it: what it alone holds is lost then",
    );
  const saveCache = (cache: CacheEntry, done: (error: StoreError | null) => void) => {
    // An array has at most two appliances, and a pair's caches are one: of former ones only the last is remembered.
    const others = holder.document.caches.filter(
      (one) => one.appliance !== cache.appliance && one.appliance !== facts.partner,
    );
    const caches = [...others.slice(-1), cache];
    void holder.save({ ...holder.document, caches }).then(done);
  };
  // While the nonce is the old one the loss is still to be seen in the cache; afterwards only the group's root tells of it.
  const lossTrouble = await groups.settle(groups.all().filter((group) => group.cacheWasLost));
  if (lossTrouble !== null) return refuse(events, lossTrouble);
  if (diskWasStale) {
    const error = await whenDone(pool.adoptStale.bind(pool));
    if (error !== null) return refuse(events, error.text);
  }
  const renew = (needless: boolean, done: (error: StoreError | null) => void) => {
    const { appliance } = config.array;
    renewNonce({ nvram, entropy, arrayId: pool.arrayId, appliance, entry: entry(), needless }, saveCache, done);
  };
  const renewed = await whenDone<StoreError>((done) => renew(false, done));
  if (renewed !== null) return refuse(events, renewed.text);
  const settleTrouble = await groups.settle(groups.all());
  if (settleTrouble !== null) return refuse(events, settleTrouble);
  groups.watchBattery();
  const { pair } = options;
  if (pair !== undefined) {
    const keeper = new CopyKeeper({
      mirror: pair.mirror,
      clock,
      events,
      allOnShelf: () => groups.allOnShelf,
      ownFailed: () => nvram.failed,
      renounce: (done) => renew(true, done),
      needNoMore: (done) => saveCache({ ...entry()!, needless: true }, done),
      need: (done) => saveCache({ ...entry()!, needless: false }, done),
      writesBackAlone: pair.writesBackAlone,
      isCopyWanted: () => pair.isCopyWanted,
    });
    groups.onSafe = () => keeper.look();
    pair.keptBy(keeper);
  }

  const hosts = new HostRegistry({
    document: () => holder.document,
    save: async (list) => {
      const error = await holder.save({ ...holder.document, hosts: list });
      if (error === null) return { ok: true, value: null };
      return { ok: false, error: { code: error.code === "no-space" ? "no-space" : "shelf-failed", text: error.text } };
    },
    volumeExists: (name) => groups.findVolume(name) !== null,
    own: config.iscsi?.own ?? null,
    accessChanged: (volumes) => {
      for (const name of volumes) groups.endExports(name, "the host's access has changed");
    },
  });
  const goldenAccess = config.goldenAccess ?? "read-only";
  const { reservations: found } = holder.document;
  const kept = pair?.succeeds() === true ? found : keptOverPowerLoss(found);
  if (Object.keys(kept).length < Object.keys(found).length) {
    const error = await holder.save({ ...holder.document, reservations: kept });
    if (error !== null) return refuse(events, error.text);
  }
  const reservations = new ReservationKeeper({
    keepsAll: pair !== undefined,
    document: () => holder.document,
    save: (kept, done) => {
      void holder.save({ ...holder.document, reservations: kept }).then((error) => done(error?.text ?? null));
    },
  });
  // Also where the primary's log, or the end of a golden copy, says so: a later volume of that name is another one.
  groups.onVolumesChanged((gone) => {
    for (const { name, uuid } of gone) {
      if (groups.findVolume(name) === null) void hosts.forget(name);
      reservations.forget(uuid, () => {});
    }
    // A golden copy that is made anew has the UUIDs of the one before.
    device.forgetUnits(gone.map(({ uuid }) => uuid));
    // Not in the midst of a commit.
    clock.after(0, () => hosts.changed());
  });
  const luns = new LunRegistry({ groups, hosts, goldenAccess });
  const targetName = config.iscsi?.targetName ?? iscsiTargetName(config.array.name);
  const device = new TargetDevice({
    clock,
    luns,
    reservations,
    targetName,
    portGroups: () => pair?.portGroups() ?? singlePortGroups(hal),
  });
  const exports = new ExportRegistry({
    groups,
    hosts,
    goldenAccess,
    isReserved: (uuid, changes) => device.forbidsStranger(uuid, changes),
  });
  const seat: ArraySeat = {
    device,
    luns: (host) => luns.luns(host),
    required: (host) => hosts.required(host),
    proofOf: (host) => hosts.proofOf(host),
    proved: (host, proof) => hosts.proved(host, proof),
    list: (host) => exports.list(host),
    uuidOf: (name) => exports.uuidOf(name),
    imageOf: (name) => exports.imageOf(name),
    open: (name, host) => exports.open(name, host),
    directory: () => ({ hosts: holder.document.hosts, exports: exports.all(), groups: pool.groupIds() }),
    onDirectory: (listener) => hosts.onChanged(listener),
    portGroupsChanged: () => device.portGroupsChanged(),
  };
  const servers =
    pair === undefined
      ? new HostServers({
          hal,
          events,
          exports,
          deviceServer: device,
          authority: hosts,
          nbdTls: config.tls?.nbd ?? "off",
          targetName,
          place: singlePlace,
        })
      : null;
  const transfers = new GroupTransfers({
    clock,
    inheritMs: pairLimits.inheritMs,
    pool,
    groups,
    document: () => holder.document,
    save: (document) => holder.save(document),
    forgetUnits: (uuids) => device.forgetUnits(uuids),
    changed: () => hosts.changed(),
  });
  if (movedOn.ended.length > 0) await transfers.forgetStrangers();
  const control = new ApplianceControl({
    hal,
    config,
    events,
    pool,
    nvram,
    groups,
    hosts,
    version: options.version,
    stopServing: () => servers?.close(),
    stopped: async () => {
      // Of a pair either appliance may be the next one to start: with everything at home it needs no cache for that.
      if (pair === undefined || !groups.all().every((group) => group.isClean)) return;
      await whenDone<StoreError>((done) => saveCache({ ...entry()!, needless: true }, done));
    },
    pair: pair ?? null,
  });
  const portTrouble = (await servers?.listen()) ?? null;
  if (portTrouble !== null) return refuse(events, portTrouble);
  const nicTrouble = await whenDone<string>((done) =>
    groups.startReplication((id) => pair?.inherits(id) === true, done),
  );
  if (nicTrouble !== null) return refuse(events, nicTrouble);
  events.emit(
    "appliance-started",
    `${config.array.appliance} of array ${config.array.name} serves ${groups.all().length} groups`,
    {
      groups: groups.all().length,
    },
  );
  return { ok: true, control, groups, seat, transfers, pool };
}

function singlePortGroups(hal: Hal): TargetPortGroup[] {
  const iscsi = hal.hbaPorts.filter(({ protocol }) => protocol === "iscsi");
  const ports = iscsi.map((_, index) => singlePlace.firstPort + index);
  return [{ id: 1, state: "active-optimized", preferred: false, ports }];
}

function refuse(events: EventSink, text: string): { ok: false; text: string } {
  events.emit("start-refused", text);
  return { ok: false, text };
}
