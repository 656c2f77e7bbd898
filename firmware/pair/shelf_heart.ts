/**
 * Heartbeats through the shelf: each appliance of a pair counts up in a page of its own on the pool's disks, and looks at the partner's.
 * So a partner that is alive while the interconnect is cut is not taken for dead.
 *
 * A page: u32 magic "GCHB", u32 crc32 of bytes 8 .. 64, u64 count, 16B incarnation, u8 1 when it owns the array.
 *
 * Invariants:
 * - Nothing is written to a disk that is not this array's: its superblock is looked at first, and again after the pool has changed.
 * - One write per disk is under way; a disk that does not answer is not asked again before it does.
 * - The count comes from the main loop: whoever judges it allows for a loop that is late (`partner_watch.ts`).
 * - `silentMs` never counts the time before the first look, nor the time in which this side could not look.
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
  /** Whether this appliance owns the array, or is about to. */
  owns(): boolean;
}

interface HeartDisk {
  readonly disk: Disk;
  writing: boolean;
  reading: boolean;
  /** What the partner's page said last. */
  seen: string;
}

export class ShelfHeart {
  readonly #options: ShelfHeartOptions;
  readonly #incarnation: Uint8Array;
  #disks: HeartDisk[] = [];
  #count = 0;
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

  /** Looks for the pool's disks: at the start, and when a pool was made. */
  findPool(done: () => void): void {
    const { shelves, digests, array } = this.#options;
    findDisks(shelves, digests, (found) => {
      const ours = found.filter(({ state, superblock }) => state === "in-use" && superblock?.arrayName === array);
      const before = this.#disks;
      this.#disks = ours.slice(0, disksMax).map(({ disk }) => {
        const known = before.find((candidate) => candidate.disk === disk);
        return known ?? { disk, writing: false, reading: false, seen: "" };
      });
      // What was seen of the same disks goes on counting.
      const isSame = this.#disks.length === before.length && this.#disks.every((disk) => before.includes(disk));
      if (!isSame) this.#stillMs = null;
      done();
    });
  }

  /** For how long the partner's count has stood still as far as this side could see; null: there is no pool to tell. */
  get silentMs(): number | null {
    return this.#disks.length === 0 ? null : (this.#stillMs ?? 0);
  }

  #beat(): void {
    if (this.#stopped) return;
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
    bytes[ownsAt] = this.#options.owns() ? 1 : 0;
    view.setUint32(0, magic, true);
    view.setUint32(4, this.#options.digests.crc32(bytes.subarray(8, coveredBytes)), true);
    target.writing = true;
    target.disk.write(heartbeatOffset(this.#options.place, this.#options.half), [bytes], () => {
      target.writing = false;
    });
  }

  #look(target: HeartDisk): void {
    if (target.reading) return;
    const { clock, digests, place, half } = this.#options;
    const { bytes, view } = regionOf(new Uint8Array(pageBytes));
    target.reading = true;
    target.disk.read(heartbeatOffset(1 - place, half), bytes, (error) => {
      target.reading = false;
      if (error !== null || !this.#disks.includes(target)) return;
      // A pause of this side's own is none of the partner's, who may have been stopped by the same cause.
      const sinceMs = Math.min(clock.nowMs() - this.#lookedMs, 2 * this.#options.heartbeatMs);
      this.#lookedMs = clock.nowMs();
      const isWhole =
        view.getUint32(0, true) === magic && view.getUint32(4, true) === digests.crc32(bytes.subarray(8, coveredBytes));
      const seen = isWhole ? `${getU64(view, 8)} ${bytes.subarray(16, 32).join(" ")}` : "";
      if (seen !== target.seen && target.seen !== "") this.movedMs = clock.nowMs();
      this.#stillMs = seen !== target.seen || this.#stillMs === null ? 0 : this.#stillMs + sinceMs;
      target.seen = seen;
      if (isWhole) this.partnerOwns = bytes[ownsAt] === 1;
    });
  }
}
