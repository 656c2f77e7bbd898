/**
 * Digests of a fork: SHA-256 of every logical MiB of a volume, unmapped as zeros. Both sides of a verify use it, so both hash the
 * same bytes. Holes are not read: the digest of a MiB of zeros is computed once.
 */
import type { Digests } from "../../hal/api/digests.ts";
import { verifyLimits } from "../peer/limits.ts";
import { type HomeExtent, physicalBlockBytes, type StoreError } from "../store/store.ts";

const { mibBytes, digestBytes } = verifyLimits;
const mibBlocks = mibBytes / physicalBlockBytes;

/** What is needed of the group to read its forks. */
export interface ForkReader {
  readonly digests: Digests;
  readFork(
    id: string,
    volume: number,
    firstBlock: number,
    target: Uint8Array,
    done: (error: StoreError | null) => void,
  ): void;
  forkExtents(
    id: string,
    volume: number,
    range: { readonly firstBlock: number; readonly blockCount: number; readonly limit: number },
    done: (error: StoreError | null, extents: readonly HomeExtent[]) => void,
  ): void;
  forkVolumes(id: string): readonly { readonly number: number; readonly sizeBytes: number }[];
}

export function mibCountOf(sizeBytes: number): number {
  return Math.ceil(sizeBytes / mibBytes);
}

export class ForkDigester {
  readonly #reader: ForkReader;
  readonly #fork: string;
  readonly #buffer = new Uint8Array(mibBytes);
  #zeroDigest: Uint8Array | null = null;
  #stopped = false;

  constructor(reader: ForkReader, fork: string) {
    this.#reader = reader;
    this.#fork = fork;
  }

  stop(): void {
    this.#stopped = true;
  }

  /**
   * The digests of `mibCount` MiB from `firstMib` on, 32 bytes each; the last one of a volume covers what there is of it. One
   * call at a time. null: the range is not in the volume, or it could not be read.
   */
  range(volume: number, firstMib: number, mibCount: number, done: (digests: Uint8Array | null) => void): void {
    const sizeBytes = this.#reader.forkVolumes(this.#fork).find((candidate) => candidate.number === volume)?.sizeBytes;
    if (sizeBytes === undefined || mibCount < 1 || mibCount > verifyLimits.mibsPerAsk) return done(null);
    if (firstMib + mibCount > mibCountOf(sizeBytes)) return done(null);
    const digests = new Uint8Array(mibCount * digestBytes);
    const step = (index: number) => {
      if (this.#stopped) return;
      if (index === mibCount) return done(digests);
      const bytes = Math.min(mibBytes, sizeBytes - (firstMib + index) * mibBytes);
      this.#one(volume, firstMib + index, bytes, (digest) => {
        if (this.#stopped) return;
        if (digest === null) return done(null);
        digests.set(digest, index * digestBytes);
        step(index + 1);
      });
    };
    step(0);
  }

  #one(volume: number, mib: number, bytes: number, done: (digest: Uint8Array | null) => void): void {
    const range = { firstBlock: mib * mibBlocks, blockCount: Math.ceil(bytes / physicalBlockBytes), limit: 2 };
    this.#reader.forkExtents(this.#fork, volume, range, (error, extents) => {
      if (error !== null) return done(null);
      const first = extents[0];
      if (first !== undefined && !first.allocated && first.blockCount >= range.blockCount) {
        return done(bytes === mibBytes ? this.#zeros() : this.#reader.digests.sha256(new Uint8Array(bytes)));
      }
      const target = this.#buffer.subarray(0, range.blockCount * physicalBlockBytes);
      this.#reader.readFork(this.#fork, volume, range.firstBlock, target, (readError) => {
        done(readError === null ? this.#reader.digests.sha256(target.subarray(0, bytes)) : null);
      });
    });
  }

  #zeros(): Uint8Array {
    if (this.#zeroDigest === null) this.#zeroDigest = this.#reader.digests.sha256(new Uint8Array(mibBytes));
    return this.#zeroDigest;
  }
}
