/**
 * Heartbeats through the shelf: each appliance of a pair counts up in a page of its own on the pool's disks, and looks at the partner's.
 * So a partner that is alive while the interconnect is cut is not taken for dead.
 *
 * A page: u32 magic "GCHB", u32 crc32 of bytes 8 .. 64, u64 count, 16B incarnation, u8 1 when it owns the array, and at 36 u32 its limit in
 * ms (0: of a version that did not say). From byte 64 on, absent in pages of earlier versions: u32 magic "GCHG", u32 n, n 16B ids of the
 * groups that it serves, u32 crc32 of bytes 8 .. here.
 *
 * Invariants:
 * - Nothing is written to a disk that is not this array's: its superblock is looked at first, and again after the pool has changed.
 * - One write per disk is under way; a disk that does not answer is not asked again before it does.
 * - The count comes from the main loop: whoever judges it allows for a loop that is late (`partner_watch.ts`).
 * - `silentMs` never counts the time before the first look, nor the time in which this side could not look.
 * - Both appliances use the same disks: the first ones of the pool, whichever answer.
 * - What the page says of groups is said at once when it changes, and is the last thing that is written before an orderly end: of an
 *   owner that is dead or evicted it tells what that one served in the end.
 * - What a disk has taken while this appliance owned renews its read lease (`read_lease.ts`).
 */
import type { Clock, Timer } from "../../hal/api/clock.ts";
import type { Digests } from "../../hal/api/digests.ts";
import type { Entropy } from "../../hal/api/entropy.ts";
import type { Disk, Shelf } from "../../hal/api/shelf.ts";
import { fromHex, getU64, setU64, toHex } from "../codec/bytes.ts";
import { type Region, regionOf } from "../log/record.ts";
import { findDisks } from "../store/disk_finder.ts";
import { heartbeatOffset, pageBytes } from "../store/geometry.ts";
import { type HalfNumber, pairLimits } from "./limits.ts";

const magic = 0x42484347;
const coveredBytes = 64;
const ownsAt = 32;
const limitAt = 36;
const groupsMagic = 0x47484347;
const groupsAt = 64;
const idsAt = groupsAt + 8;
const idBytes = 16;
/** Two disks of the pool: one that fails silences nobody. */
const disksMax = 2;

export interface ShelfHeartOptions {
  readonly clock: Clock;
  readonly entropy: Entropy;
  readonly digests: Digests;
  readonly shelves: readonly Shelf[];
  readonly array: string;
  /** Which of the two pages is the own one. */
  readonly place: 0 | 1;
  /** Each half of the array has pages of its own. */
  readonly half: HalfNumber;
  readonly heartbeatMs: number;
  /** The read lease of this appliance is shorter; whoever takes over from it waits for that. */
  readonly limitMs: number;
  /** Whether this appliance owns the array, or is about to. */
  owns(): boolean;
  /** Ids of the groups that it serves now. */
  serving(): readonly string[];
  /** It has been looked for the pool. */
  looked(): void;
  /** A count as the owner, sent at `sentMs`, is on a disk. */
  counted(sentMs: number): void;
  /** A disk takes nothing of this appliance any more. */
  refused(disk: Disk): void;
}

/**
 * What the partner's pages say: nothing of it is on any disk of the pool, or no disk can tell, or whether one calls it the owner, and
 * which groups it serves by all of them.
 */
export type LastWord = "none" | "unknown" | { readonly owns: boolean; readonly serving: readonly string[] };

interface HeartDisk {
  readonly disk: Disk;
  /** Its place among the pool's disks. */
  readonly index: number;
  writing: boolean;
  reading: boolean;
  /** What the partner's page said last. */
  seen: string;
  owns: boolean;
  /** The partner's, by that page. */
  limitMs: number;
  /** It has not taken this appliance's last count. */
  failed: boolean;
  serving: readonly string[];
  /** When it was read last. */
  lookedMs: number;
}

export class ShelfHeart {
  readonly #options: ShelfHeartOptions;
  readonly #incarnation: Uint8Array;
  #disks: HeartDisk[] = [];
  #count = 0;
  /** What was written last of owning and serving. */
  #told = "";
  #timer: Timer | null = null;
  #stopped = false;
  /** A disk has taken the page. */
  #onWritten: () => void = () => {};
  /** For how long the partner's count has stood still under this side's eyes; null: not looked yet. */
  #stillMs: number | null = null;
  /** When the partner's count was seen to move last; null: never. */
  movedMs: number | null = null;
  /** The partner's loop has turned at this time or later: its count was another one when its page was read then. null: not known. */
  aliveMs: number | null = null;
  /** As its page said last. */
  partnerOwns = false;
  /** The last look that was answered. */
  #lookedMs = 0;

  constructor(options: ShelfHeartOptions) {
    this.#options = options;
    this.#incarnation = options.entropy.fill(new Uint8Array(16));
  }

  start(): void {
    this.findPool(() => this.#beat());
  }

  /** Resolves when the disks have what the page says now; one that does not answer is not waited for. */
  stop(): Promise<void> {
    this.#timer?.cancel();
    return new Promise((resolve) => {
      const limit = this.#options.clock.after(pairLimits.lastWordMs, () => end());
      const end = () => {
        this.#stopped = true;
        limit.cancel();
        resolve();
      };
      this.#onWritten = () => {
        if (!this.#stopped && this.#disks.every(({ writing }) => !writing)) end();
      };
      this.#onWritten();
    });
  }

  /** Looks for the pool's disks: at the start, and when one may have been made since. */
  findPool(done: () => void = () => {}): void {
    const { shelves, digests, array } = this.#options;
    findDisks(shelves, digests, (found) => {
      const ours = found.filter(({ state, superblock }) => state === "in-use" && superblock?.arrayName === array);
      const known = this.#disks;
      const disks = ours.map(({ disk, superblock }) => {
        const index = superblock!.diskIndex;
        return known.find((one) => one.disk === disk && one.index === index) ?? newHeartDisk(disk, index);
      });
      // One that does not answer now may again.
      const silent = known.filter(({ index }) => !disks.some((disk) => disk.index === index));
      this.#disks = [...disks, ...silent].filter(({ index }) => index < disksMax);
      if (this.#disks.some((disk) => !known.includes(disk))) this.#stillMs = null;
      this.#options.looked();
      done();
    });
  }

  /** For how long the partner's count has stood still as far as this side could see; null: there is no pool to tell. */
  get silentMs(): number | null {
    return this.#disks.length === 0 ? null : (this.#stillMs ?? 0);
  }

  /** As the partner's pages say; 0: not known. A disk that has not been read since counts with what it said. */
  get partnerLimitMs(): number {
    return Math.max(0, ...this.#disks.map(({ limitMs }) => limitMs));
  }

  /** Places of those of the pool's disks that take nothing from this appliance now. */
  get failing(): string[] {
    return this.#disks.filter(({ failed }) => failed).map(({ disk }) => disk.place);
  }

  get knowsPool(): boolean {
    return this.#disks.length > 0;
  }

  /** What the page says may have changed: neither the partner nor the lease waits for the next count. */
  tell(): void {
    if (this.#timer === null || this.#stopped || this.#told === this.#toTell()) return;
    this.#timer.cancel();
    this.#beat();
  }

  /**
   * Looks at every disk again, for the pool first where none is known, and calls `done` when all have answered. A look that was under way
   * before says nothing.
   */
  lookAnew(done: (last: LastWord) => void): void {
    if (!this.knowsPool) {
      return this.findPool(() => {
        if (this.knowsPool) this.lookAnew(done);
        else done("none");
      });
    }
    const disks = [...this.#disks];
    let open = disks.length;
    let answered = 0;
    for (const disk of disks) {
      this.#read(disk, (isAnswered) => {
        if (isAnswered) answered++;
        if (--open > 0) return;
        const isAll = this.#disks.every((disk) => disks.includes(disk)) && answered === disks.length;
        done(isAll ? lastWordOf(disks) : "unknown");
      });
    }
  }

  #beat(): void {
    if (this.#stopped) return;
    if (!this.knowsPool && this.#options.owns()) this.findPool();
    this.#count++;
    for (const disk of this.#disks) {
      this.#write(disk);
      this.#look(disk);
    }
    this.#timer = this.#options.clock.after(this.#options.heartbeatMs, () => this.#beat());
  }

  #write(target: HeartDisk): void {
    if (target.writing) return;
    const { digests } = this.#options;
    const { bytes, view } = regionOf(new Uint8Array(pageBytes));
    setU64(view, 8, this.#count);
    bytes.set(this.#incarnation, 16);
    const owns = this.#options.owns();
    const told = this.#toTell();
    this.#told = told;
    bytes[ownsAt] = owns ? 1 : 0;
    view.setUint32(limitAt, this.#options.limitMs, true);
    view.setUint32(0, magic, true);
    view.setUint32(4, digests.crc32(bytes.subarray(8, coveredBytes)), true);
    putGroups({ bytes, view }, this.#options.serving(), digests);
    target.writing = true;
    const sentMs = this.#options.clock.nowMs();
    target.disk.write(heartbeatOffset(this.#options.place, this.#options.half), [bytes], (error) => {
      target.writing = false;
      target.failed = error !== null;
      if (error === null && owns) this.#options.counted(sentMs);
      if (error?.code === "evicted") this.#options.refused(target.disk);
      // It was to say something else meanwhile.
      if (this.#toTell() !== told && !this.#stopped) this.#write(target);
      this.#onWritten();
    });
  }

  #toTell(): string {
    const { owns, serving } = this.#options;
    return `${owns()} ${serving().join()}`;
  }

  #look(target: HeartDisk): void {
    if (target.reading) return;
    target.reading = true;
    this.#read(target, () => {
      target.reading = false;
    });
  }

  #read(target: HeartDisk, done: (isAnswered: boolean) => void): void {
    const { clock, digests, place, half } = this.#options;
    const { bytes, view } = regionOf(new Uint8Array(pageBytes));
    target.disk.read(heartbeatOffset(1 - place, half), bytes, (error) => {
      if (error !== null || !this.#disks.includes(target)) return done(false);
      // A pause of this side's own is none of the partner's, who may have been stopped by the same cause.
      const sinceMs = Math.min(clock.nowMs() - this.#lookedMs, 2 * this.#options.heartbeatMs);
      this.#lookedMs = clock.nowMs();
      const isWhole =
        view.getUint32(0, true) === magic && view.getUint32(4, true) === digests.crc32(bytes.subarray(8, coveredBytes));
      const seen = isWhole ? `${getU64(view, 8)} ${bytes.subarray(16, 32).join(" ")}` : "";
      if (seen !== target.seen && target.seen !== "") {
        this.movedMs = clock.nowMs();
        this.aliveMs = Math.max(this.aliveMs ?? 0, target.lookedMs);
      }
      target.lookedMs = clock.nowMs();
      this.#stillMs = seen !== target.seen || this.#stillMs === null ? 0 : this.#stillMs + sinceMs;
      target.seen = seen;
      if (isWhole) {
        target.owns = this.partnerOwns = bytes[ownsAt] === 1;
        target.limitMs = view.getUint32(limitAt, true);
        target.serving = groupsIn({ bytes, view }, digests);
      }
      done(true);
    });
  }
}

function newHeartDisk(disk: Disk, index: number): HeartDisk {
  return {
    disk,
    index,
    writing: false,
    reading: false,
    seen: "",
    owns: false,
    limitMs: 0,
    failed: false,
    serving: [],
    lookedMs: 0,
  };
}

function lastWordOf(disks: readonly HeartDisk[]): LastWord {
  // One that was away has an old page: what is in force is said by all.
  const serving = disks[0]!.serving.filter((id) => disks.every((disk) => disk.serving.includes(id)));
  return { owns: disks.some(({ owns }) => owns), serving };
}

function putGroups({ bytes, view }: Region, groups: readonly string[], digests: Digests): void {
  view.setUint32(groupsAt, groupsMagic, true);
  view.setUint32(groupsAt + 4, groups.length, true);
  groups.forEach((id, index) => {
    bytes.set(fromHex(id), idsAt + idBytes * index);
  });
  const end = idsAt + idBytes * groups.length;
  view.setUint32(end, digests.crc32(bytes.subarray(8, end)), true);
}

/** None where the page does not say, or is a mixture of two. */
function groupsIn({ bytes, view }: Region, digests: Digests): readonly string[] {
  const count = view.getUint32(groupsAt + 4, true);
  if (view.getUint32(groupsAt, true) !== groupsMagic || count > pairLimits.groupsMax) return [];
  const end = idsAt + idBytes * count;
  if (view.getUint32(end, true) !== digests.crc32(bytes.subarray(8, end))) return [];
  return Array.from({ length: count }, (_, index) => {
    const at = idsAt + idBytes * index;
    return toHex(bytes.subarray(at, at + idBytes));
  });
}
