/**
 * What the store promises to the rooms above it. One `Pool` per array, or per half of a pair's pool; one `GroupStore` per consistency
 * group.
 *
 * Invariants:
 * - The home location of a group is its state at the last `commit`, plus whatever `apply` has changed since: after a crash the
 *   maps are those of the last completed commit, and the blocks that an unfinished `apply` touched may differ from their
 *   checksums until the log's replay applies them again.
 * - Only one `apply` or `commit` of a group runs at a time (asserted). `fork`, `dropFork`, `promoteFork` and the volume calls take
 *   effect in memory at once, need neither to be running, and become durable with the next `commit`.
 * - Nothing is freed before the commit that no longer needs it is durable and every read that began earlier has ended.
 * - Every block served was checked against the checksum in its map.
 */

/** The physical block, bytes: the unit of checksums and of every block number here. */
export const physicalBlockBytes = 4096;
/** The unit of allocation, bytes. */
export const chunkBytes = 65536;

/** `head` is the live state; any other version is a fork's id. */
export type Version = string;

export interface StoreError {
  /** `refused`: not now, or not in this pool; the text says what has to be done first. */
  readonly code: "medium-error" | "no-space" | "disk-failed" | "unknown-version" | "corrupt" | "refused";
  readonly text: string;
  /** The first physical block concerned, when there is one. */
  readonly block?: number;
}

export type StoreDone = (error: StoreError | null) => void;

export interface StoredVolume {
  /** Unique in its group for ever. */
  readonly number: number;
  /** A multiple of 512; the last physical block may be used in part. */
  readonly sizeBytes: number;
}

export interface StoredFork {
  readonly id: string;
  /** The group at this seq: what the caller said when it forked. */
  readonly seq: number;
  readonly volumes: readonly StoredVolume[];
}

/** One step of an `apply`: whole physical blocks of one volume. The steps of one apply do not overlap. */
export type HomeStep =
  | {
      readonly kind: "data";
      readonly volume: number;
      readonly firstBlock: number;
      /** `crcs.length` blocks, one behind the other; unchanged until the apply is done. */
      readonly bytes: Uint8Array;
      /** CRC-32 of each block. */
      readonly crcs: ArrayLike<number>;
      /**
       * True when the log alone can not give these bytes again (a block that was written in part and completed from its home): what
       * is at home now stays readable through a crash until the commit. Such a write takes a chunk, as a new one does.
       */
      readonly fresh?: boolean;
    }
  | {
      readonly kind: "zero";
      readonly volume: number;
      readonly firstBlock: number;
      readonly blockCount: number;
    };

export interface HomeExtent {
  readonly firstBlock: number;
  readonly blockCount: number;
  readonly allocated: boolean;
}

/** A place for one log segment on the shelf. */
export interface LogSlot {
  readonly index: number;
}

export interface GroupStore {
  /** 32 hex digits. */
  readonly id: string;
  /** The document of the last completed commit (plain values, as CBOR keeps them). */
  document(): unknown;

  volumes(version: Version): readonly StoredVolume[];
  createVolume(volume: StoredVolume): void;
  /** Growing only. */
  resizeVolume(number: number, sizeBytes: number): void;
  /** Its space comes back in the background, over later commits. */
  deleteVolume(number: number): void;

  /** Reads whole blocks at once if map and medium allow it without blocking and every checksum is right; else false. */
  tryRead(version: Version, volume: number, firstBlock: number, target: Uint8Array): boolean;
  /** Reads whole blocks; ranges without data, and beyond the volume's end, read as zeros. */
  read(version: Version, volume: number, firstBlock: number, target: Uint8Array, done: StoreDone): void;
  /** Which parts of a range hold data: adjoining extents from `firstBlock` on, at most `limit` of them. */
  extents(
    version: Version,
    volume: number,
    range: { readonly firstBlock: number; readonly blockCount: number; readonly limit: number },
    done: (error: StoreError | null, extents: readonly HomeExtent[]) => void,
  ): void;

  /**
   * Moves blocks to their home.
   *
   * `no-space` (nothing was promised, or more than `applyLeavesMax` map leaves were touched since the last commit on a full pool):
   * commit, and apply again in smaller pieces. `disk-failed` because a disk was absent or full: apply the same steps again; commits
   * are refused until that has succeeded. After any other `disk-failed`, here or in `commit`, the group must be opened anew.
   */
  apply(steps: readonly HomeStep[], done: StoreDone): void;
  /** Makes everything applied so far, and `document`, durable as one. `no-space`: the document is too large; nothing has changed. */
  commit(document: unknown, done: StoreDone): void;

  forks(): readonly StoredFork[];
  /** Whether the root has room for another fork and `spareBytes` beside it. Without room, a commit behind the fork is refused. */
  hasRoomForFork(spareBytes: number): boolean;
  /** O(1). The fork is the group as applied so far. */
  fork(id: string, seq: number): void;
  dropFork(id: string): void;
  /** The head becomes what the fork holds (the fork stays); the former head is kept as fork `keepHeadAs`, or dropped when null. */
  promoteFork(id: string, keepHeadAs: { readonly id: string; readonly seq: number } | null): void;

  /**
   * Sets chunks (and the map pages they may need) aside so that later applies cannot fail for lack of space. False: the pool
   * cannot promise them.
   */
  reserveChunks(count: number): boolean;
  releaseChunks(count: number): void;
  /** How many new chunks a write of this range needs now, given the maps in memory; null: the map must be loaded first. */
  chunksNeeded(volume: number, firstBlock: number, blockCount: number): number | null;
  loadMap(volume: number, firstBlock: number, blockCount: number, done: StoreDone): void;

  /**
   * Slots in use, which may hold a segment of this group: what recovery scans. After a start all of them count as in use until they are
   * freed; some may never have been written, and hold anything.
   */
  logSlots(): readonly LogSlot[];
  readonly logSlotBytes: number;
  /**
   * The log will want so many slots more than it has: the pool keeps them for it, and reserves no chunks for the group without them.
   * False: it has not got them now; they are kept as soon as it has.
   */
  expectLogSlots(slotCount: number): boolean;
  /** null: no space. The slot is this group's, durably, before `done`. It may be one of those expected, and is not expected any more. */
  allocateLogSlot(done: (slot: LogSlot | null) => void): void;
  /** null also when one of those expected would have to be taken. */
  allocateSpareLogSlot(done: (slot: LogSlot | null) => void): void;
  freeLogSlot(slot: LogSlot): void;
  /** Offsets and lengths are multiples of 4,096. */
  writeLogSlot(slot: LogSlot, offsetBytes: number, sources: readonly Uint8Array[], done: StoreDone): void;
  readLogSlot(slot: LogSlot, offsetBytes: number, target: Uint8Array, done: StoreDone): void;
  /** Completes when every `writeLogSlot` completed before is durable. */
  flushLog(done: StoreDone): void;

  /** Reads everything allocated and checks it, a piece at a time; the appliance goes on meanwhile. */
  scrub(progress: (checkedBytes: number, totalBytes: number) => boolean, done: (report: ScrubReport) => void): void;
  usage(): GroupUsage;
}

export interface ScrubReport {
  readonly checkedBytes: number;
  readonly damaged: readonly { version: Version; volume: number; block: number }[];
  readonly finished: boolean;
}

export interface GroupUsage {
  /** Chunks that hold data, in bytes. */
  readonly dataBytes: number;
  readonly metadataBytes: number;
  readonly logBytes: number;
  readonly reservedBytes: number;
}

/**
 * What was found in a slot when the pool was opened. Only `in-use`, `misplaced` and (at creation) `blank` disks are ever written, and
 * `stale` ones on the operator's word.
 */
export interface DiskReport {
  readonly place: string;
  readonly state: "in-use" | "blank" | "missing" | "foreign" | "stale" | "newer-version" | "corrupt" | "misplaced";
  readonly text: string;
}

export interface PoolUsage {
  /** Of this half. */
  readonly totalBytes: number;
  /** In slabs that belong to nobody. */
  readonly freeBytes: number;
  /** Of those, in slabs that are promised to nobody either. */
  readonly spareBytes: number;
}

/** Who has a group: of two halves that name it, the one with the higher claim. They are never equal. */
export interface GroupClaim {
  readonly id: string;
  readonly claim: number;
  /** A move from here was begun, and neither ended nor cancelled: the other half may have the group. */
  readonly leaving: boolean;
}

/**
 * A group on its way from one half to the other: what names its data, which stays where it is. Plain values; at most 128 KiB of root and
 * 4 bytes for each slab of the group (64 KiB for 1 TiB in slabs of 64 MiB).
 */
export interface GroupParcel {
  readonly id: string;
  /** The group's number in both halves. */
  readonly number: number;
  /** What the half that takes it claims it with. */
  readonly claim: number;
  /** Of the root. */
  readonly generation: number;
  /** The root's body as its slot holds it. */
  readonly root: Uint8Array;
  /** The group's slabs by kind: numbers of 32 bits, little-endian, in ascending order. */
  readonly dataSlabs: Uint8Array;
  readonly mapSlabs: Uint8Array;
  readonly logSlabs: Uint8Array;
}

/**
 * Space and groups between the two halves of a pool. A pool with one half refuses all of it.
 *
 * The halves know nothing of each other: the caller carries what one returns to the other, in order, and delivers nothing late: a
 * message about a slab or a group is of no use once a newer one about it is on its way. After `disk-failed` the effect on the disks is
 * unknown: the same call once more is right, and so is what the claims say after the next start.
 */
export interface PoolHalf {
  /**
   * Up to that many free slabs that are promised to nobody are elsewhere, durably, before `done`; the other half is to `receive` them.
   * After a crash or an error in between nobody has them, until one half does `receiveOrphans`.
   */
  cede(slabCount: number, done: (error: StoreError | null, slabs: readonly number[]) => void): void;
  /** Slabs that the other half has ceded are free here, durably, before `done`. Those that are not elsewhere are left alone. */
  receive(slabs: readonly number[], done: StoreDone): void;
  /** A bit for each slab (slab n: bit n % 8 of byte n / 8), set unless it is elsewhere by this half's table, durably. */
  claims(): Uint8Array;
  /**
   * Slabs that are elsewhere here and by the other half's `claims` are free here, durably, before `done`: what a crash or an error has
   * left to nobody. The caller adds to them what this half had (`claims`) before it asked for them, and sees to it that nothing has been
   * received since then, that nothing was on its way to the other half when that told them, and that the other half does not do the same.
   */
  receiveOrphans(theirClaims: Uint8Array, done: (error: StoreError | null, slabCount: number) => void): void;

  /**
   * The group is to leave; it is idle, and nobody uses its `GroupStore` any more. Its entry is `leaving`, durably, before the parcel is
   * there. From then on it is not opened here, over restarts too, until `endMove` or `cancelMove`. Nothing that was promised to it
   * (`reserveChunks`) goes with it: the other half needs free slabs of its own for that.
   */
  beginMove(id: string, done: (error: StoreError | null, parcel: GroupParcel | null) => void): void;
  /**
   * Takes a group that the other half has begun to move. The parcel may be anything: it is checked as a whole before anything changes.
   * The group is this half's, durably, before `done`; a crash before leaves it with the other half. Once more with the same parcel
   * is right. `corrupt`: the parcel does not hold together. `refused`: it does not fit what this half has. `no-space`: no root slot is
   * free, or the pool's document is full.
   */
  adoptGroup(parcel: unknown, done: StoreDone): void;
  /**
   * The other half has the group, as its claim shows: the entry goes, its slabs are elsewhere, durably, before `done`. Once more is
   * right. Also for the lower of two claims that are not leaving.
   */
  endMove(id: string, done: StoreDone): void;
  /**
   * The other half has not got the group, and will not take the parcel any more: it is an ordinary group again, durably, before `done`,
   * with a higher claim than that of the parcel.
   */
  cancelMove(id: string, done: StoreDone): void;
  /** Of every group in the document. `readGroupClaims` reads them from the disks of a half that nobody has open. */
  groupClaims(): readonly GroupClaim[];
}

export interface Pool extends PoolHalf {
  /** 32 hex digits. */
  readonly arrayId: string;
  readonly arrayName: string;
  readonly slabBytes: number;
  /** The array's own small document (nonces, appliances); plain values, as CBOR keeps them. */
  arrayDocument(): unknown;
  /** One that cannot be saved is taken back before `done`, unless a newer one is there. `no-space`: the disks have nothing of it. */
  saveArrayDocument(document: unknown, done: StoreDone): void;
  /** Those that are leaving (`groupClaims`) too. */
  groupIds(): readonly string[];
  createGroup(id: string, document: unknown, done: (error: StoreError | null, group: GroupStore | null) => void): void;
  /** Only metadata of bounded size is read; maps are read when used. `refused`: the group is leaving. */
  openGroup(id: string, done: (error: StoreError | null, group: GroupStore | null) => void): void;
  /** Everything of the group comes back to the pool. `refused`: the group is leaving. */
  removeGroup(id: string, done: StoreDone): void;
  disks(): readonly DiskReport[];
  /** Stale disks that the pool was opened with are its own from now on. Until then the next opening finds them stale again. */
  adoptStale(done: StoreDone): void;
  usage(): PoolUsage;
}
