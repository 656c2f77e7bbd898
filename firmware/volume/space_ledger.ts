/**
 * Space that admitted records will need when they are destaged, set aside at admission: acknowledged data can always go home.
 *
 * Every record sets aside one chunk for each chunk that it touches; that is more than an overwrite needs. When the pool cannot
 * promise that much, admission drains the log and asks for exactly what the maps say (`takeExactly`).
 */
import { carriesBlocks, clearsBlocks, type RecordHeader } from "../log/record.ts";
import type { LogPlace, SegmentList } from "../log/segment_list.ts";
import type { SpaceLedger } from "../log/write_log.ts";
import type { GroupStore } from "../store/store.ts";

const lbaPerChunk = 128;
const lbaPerBlock = 8;

export class ChunkLedger implements SpaceLedger {
  readonly #store: GroupStore;
  /** Records that set aside something else than the general rule says, by seq. */
  readonly #exact = new Map<number, number>();
  #nextExact: number | null = null;
  /** Chunks that records from before the stop need and the pool could not confirm: so many fewer are given back. */
  #unconfirmed = 0;

  constructor(store: GroupStore) {
    this.#store = store;
  }

  take(kind: number, startLba: number, blockCount: number, seq: number): boolean {
    const exact = this.#nextExact;
    if (exact !== null) {
      this.#exact.set(seq, exact);
      this.#nextExact = null;
      return true;
    }
    const count = chunksTouched(kind, startLba, blockCount);
    return count === 0 || this.#store.reserveChunks(count);
  }

  /** The next record uses `count` chunks that were reserved for it already. */
  takeExactly(count: number): void {
    this.#nextExact = count;
  }

  /** The exact reservation was not used after all. */
  cancelExact(): void {
    if (this.#nextExact === null) return;
    if (this.#nextExact > 0) this.#store.releaseChunks(this.#nextExact);
    this.#nextExact = null;
  }

  /** A record that recovery found set its space aside before the stop; `false` when the pool cannot confirm it. */
  retake(header: RecordHeader): boolean {
    const count = chunksTouched(header.kind, header.startLba, header.blockCount);
    if (count === 0 || this.#store.reserveChunks(count)) return true;
    this.#unconfirmed += count;
    return false;
  }

  /** Retakes for every record from `place` on; how many of them the pool cannot confirm. */
  retakeFrom(list: SegmentList, place: LogPlace): number {
    let short = 0;
    list.forEachFrom(place, (header) => {
      if (!this.retake(header)) short++;
    });
    return short;
  }

  release(header: RecordHeader): void {
    const exact = this.#exact.get(header.lastSeq);
    if (exact !== undefined) this.#exact.delete(header.lastSeq);
    const count = exact ?? chunksTouched(header.kind, header.startLba, header.blockCount);
    const unconfirmed = Math.min(count, this.#unconfirmed);
    this.#unconfirmed -= unconfirmed;
    if (count > unconfirmed) this.#store.releaseChunks(count - unconfirmed);
  }
}

/** The most chunks that bringing a record home can take. */
export function chunksTouched(kind: number, startLba: number, blockCount: number): number {
  if (blockCount === 0) return 0;
  if (carriesBlocks(kind)) {
    return Math.floor((startLba + blockCount - 1) / lbaPerChunk) - Math.floor(startLba / lbaPerChunk) + 1;
  }
  if (!clearsBlocks(kind)) return 0;
  // Only the partial blocks at both ends are written as data.
  const partialEnds = (startLba % lbaPerBlock === 0 ? 0 : 1) + ((startLba + blockCount) % lbaPerBlock === 0 ? 0 : 1);
  return partialEnds;
}
