/**
 * Judging the cache at a start, and giving it a fresh nonce.
 *
 *     shelf {current, next: fresh} ──▶ cache := fresh ──▶ shelf {current: fresh}
 *
 * While both are listed either is accepted, so a crash between the steps is harmless. Any other cache (an old image of a machine, a
 * swapped device) is never replayed.
 */
import type { Entropy } from "../../hal/api/entropy.ts";
import { toHex } from "../codec/bytes.ts";
import type { CacheEntry } from "../manage/array_document.ts";
import type { StoreError } from "../store/store.ts";
import type { Nvram, NvramHeader } from "./nvram.ts";

export type CacheVerdict =
  /** The cache that the shelf expects: its records count. */
  | { readonly kind: "trusted" }
  /** A new array, or a replaced cache; nothing in it counts. */
  | { readonly kind: "blank" }
  /** Not this array's, or not the newest: not used, not overwritten. `overridable`: unless the operator gives it up. */
  | { readonly kind: "refused"; readonly overridable: boolean; readonly text: string };

const untouched = "it is not used and not overwritten";

/** `caches`: what the array's document says of them. */
export function judgeCache(
  header: NvramHeader,
  array: { readonly id: string; readonly appliance: string; readonly caches: readonly CacheEntry[] },
): CacheVerdict {
  const entry = array.caches.find((cache) => cache.appliance === array.appliance);
  const refused = (overridable: boolean, text: string): CacheVerdict => ({ kind: "refused", overridable, text });
  if (header.kind === "refused") return refused(false, header.text);
  if (header.kind === "blank") return { kind: "blank" };
  if (header.kind === "damaged") {
    // A very first header that a power loss has garbled: nothing was ever acknowledged on the strength of this cache.
    if (entry === undefined || entry.current === null) return { kind: "blank" };
    return refused(
      true,
      `the write cache's header is damaged; ${untouched}; put the right cache back, or start once with --accept-cache-loss`,
    );
  }
  if (header.arrayId !== array.id) {
    return refused(
      false,
      `the write cache belongs to another array (its id is ${header.arrayId}, this one's is ${array.id}); ${untouched}; ` +
        "correct [cache] path or the shelf's disks in the profile",
    );
  }
  const isOf = (cache: CacheEntry) => header.nonce === cache.current || header.nonce === cache.next;
  if (entry !== undefined && isOf(entry)) return { kind: "trusted" };
  const owner = array.caches.find(isOf);
  if (owner !== undefined) {
    return refused(
      false,
      `the write cache is that of appliance ${owner.appliance}, and the profile says ${array.appliance}; ${untouched}; ` +
        "correct [array] appliance or [cache] path",
    );
  }
  return refused(
    true,
    "the write cache is not the one that this array used last (a foreign nonce: an older image of it, or a swapped device); " +
      `${untouched}; put the right cache back, or start once with --accept-cache-loss`,
  );
}

/** Gives cache and shelf a fresh nonce. `save` makes the entry durable on the shelf. */
export function renewNonce(
  options: {
    readonly nvram: Nvram;
    readonly entropy: Entropy;
    readonly arrayId: string;
    readonly appliance: string;
    /** What the shelf lists, for a cache that has no nonce yet. */
    readonly listed: string | null;
  },
  save: (entry: CacheEntry, done: (error: StoreError | null) => void) => void,
  done: (error: StoreError | null) => void,
): void {
  const { nvram, appliance, arrayId } = options;
  const next = toHex(options.entropy.fill(new Uint8Array(16)));
  // The nonce that the cache has now: after a crash in the middle of a renewal it may be the one that was listed as next.
  const header = nvram.readHeader();
  const current = header.kind === "formatted" ? header.nonce : options.listed;
  save({ appliance, current, next }, (firstError) => {
    if (firstError !== null) return done(firstError);
    nvram.writeHeader(next, arrayId, (outcome) => {
      if (outcome === "failed") return done({ code: "disk-failed", text: "the write cache could not be persisted" });
      save({ appliance, current: next, next: null }, done);
    });
  });
}
