/**
 * Heartbeats through the shelf: each appliance of a pair counts up in a page of its own on the pool's disks, and looks at the partner's.
 * So a partner that is alive while the interconnect is cut is not taken for dead.
 *
 * A page: u32 magic "GCHB", u32 crc32 of bytes 8 .. 64, u64 count, 16B incarnation, u8 1 when it owns the array, and at 36 u32 its limit in
 * ms (0: of a version that did not say).
 *
 * Invariants:
 * - Nothing is written to a disk that is not this array's: its superblock is looked at first, and again after the pool has changed.
 * - One write per disk is under way; a disk that does not answer is not asked again before it does.
 * - The count comes from the main loop: whoever judges it allows for a loop that is late (`partner_watch.ts`).
 * - `silentMs` never counts the time before the first look, nor the time in which this side could not look.
 * - Both appliances use the same disks: the first ones of the pool, whichever answer.
 * - What a disk has taken while this appliance owned renews its read lease (`read_lease.ts`).
 */
import type { Clock, Timer } from "../../hal/api/clock.ts";
import type { Digests } from "../../hal/api/digests.ts";
import type { Entropy } from "../../hal/api/entropy.ts";
import type { Disk, Shelf } from "../../hal/api/shelf.ts";
import { getU64, setU64 } from "../codec/bytes.ts";
import { regionOf } from "../log/record.ts";
import { findDisks } from "../store/disk_finder.ts";
import { heartbeatOffset, pageBytes } from "../store/geometry.ts";
import type { HalfNumber } from "./limits.ts";

const magic = 0x42484347;
const coveredBytes = 64;
const ownsAt = 32;
const limitAt = 36;
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
  /** It has been looked for the pool. */
  looked(): void;
  /** A count as the owner, sent at `sentMs`, is on a disk. */
  counted(sentMs: number): void;
  /** A disk takes nothing of this appliance any more. */
  refused(disk: Disk): void;
}

/** What the partner's pages say: nothing of it is on any disk of the pool, or no disk can tell, or whether one calls it the owner. */
export type LastWord = "none" | "unknown" | { readonly owns: boolean };

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
}

export class ShelfHeart {
  readonly #options: ShelfHeartOptions;
  readonly #incarnation: Uint8Array;
  #disks: HeartDisk[] = [];
  #count = 0;
  /** What was written last of owning. */
  #told = false;
  #timer: Timer | null = null;
  #stopped = false;
  /** For how long the partner's count has stood still under this side's eyes; null: not looked yet. */
  #stillMs: number | null = null;
  /** When the partner's count was seen to move last; null: never. */
  movedMs: number | null = null;
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

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
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

  /** What the page says of owning has changed: neither the partner nor the lease waits for the next count. */
  tell(): void {
    if (this.#timer === null || this.#stopped || this.#told === this.#options.owns()) return;
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
        done(isAll ? { owns: disks.some(({ owns }) => owns) } : "unknown");
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
    const { bytes, view } = regionOf(new Uint8Array(pageBytes));
    setU64(view, 8, this.#count);
    bytes.set(this.#incarnation, 16);
    const owns = this.#options.owns();
    this.#told = owns;
    bytes[ownsAt] = owns ? 1 : 0;
    view.setUint32(limitAt, this.#options.limitMs, true);
    view.setUint32(0, magic, true);
    view.setUint32(4, this.#options.digests.crc32(bytes.subarray(8, coveredBytes)), true);
    target.writing = true;
    const sentMs = this.#options.clock.nowMs();
    target.disk.write(heartbeatOffset(this.#options.place, this.#options.half), [bytes], (error) => {
      target.writing = false;
      target.failed = error !== null;
      if (error === null && owns) this.#options.counted(sentMs);
      if (error?.code === "evicted") this.#options.refused(target.disk);
      // It was to say something else meanwhile.
      if (this.#options.owns() !== owns && !this.#stopped) this.#write(target);
    });
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
      if (seen !== target.seen && target.seen !== "") this.movedMs = clock.nowMs();
      this.#stillMs = seen !== target.seen || this.#stillMs === null ? 0 : this.#stillMs + sinceMs;
      target.seen = seen;
      if (isWhole) {
        target.owns = this.partnerOwns = bytes[ownsAt] === 1;
        target.limitMs = view.getUint32(limitAt, true);
      }
      done(true);
    });
  }
}

function newHeartDisk(disk: Disk, index: number): HeartDisk {
  return { disk, index, writing: false, reading: false, seen: "", owns: false, limitMs: 0, failed: false };
}
