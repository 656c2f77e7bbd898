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
  array: {
    readonly id: string;
    readonly appliance: string;
    /** Whose cache is a copy of this one's; null: an array of one appliance. */
    readonly partner: string | null;
    readonly caches: readonly CacheEntry[];
  },
): CacheVerdict {
  const entry = entryOf(array.caches, array);
  const refused = (overridable: boolean, text: string): CacheVerdict => ({ kind: "refused", overridable, text });
  if (header.kind === "refused") return refused(false, header.text);
  const isNeeded = array.partner !== null && entry !== undefined && entry.current !== null && !entry.needless;
  if (header.kind === "blank") {
    if (!isNeeded) return { kind: "blank" };
    const isOwn = entry.appliance === array.appliance;
    const where = isOwn ? "were in the one that was here" : `are in that of ${entry.appliance}`;
    return refused(
      true,
      `the write cache is blank, and the array's newest writes ${where}; start ${array.partner}${isOwn ? ", which had a copy" : ""}, ` +
        "or start once with --accept-cache-loss, which gives them up",
    );
  }
  if (header.kind === "damaged") {
    // A very first header that a power loss has garbled: nothing was ever acknowledged on the strength of this cache.
    if (entry === undefined || entry.current === null) return { kind: "blank" };
    // The power has gone while a copy was being replaced: the shelf has all of it.
    if (array.partner !== null && entry.needless) return { kind: "blank" };
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
  // The partner has gone on without this copy, and the shelf has all of it.
  if (array.partner !== null && entry?.needless === true) return { kind: "blank" };
  const owner = array.caches.find(isOf);
  if (owner !== undefined) {
    return refused(
      false,
      `the write cache is that of appliance ${owner.appliance}, and the profile says ${array.appliance}; ${untouched}; ` +
        "correct [array] appliance or [cache] path",
    );
  }
  if (isNeeded && entry.appliance === array.appliance) {
    return refused(
      true,
      "the write cache is not the one that this appliance used last (an older image of it, or a swapped device); " +
        `${untouched}; put the right cache back, or start ${array.partner}, which had a copy, ` +
        "or start once with --accept-cache-loss, which gives up what only they hold",
    );
  }
  if (isNeeded) {
    return refused(
      true,
      `the write cache is not the newest copy: ${entry.appliance} has gone on without it; ${untouched}; start ${array.partner}, ` +
        "or start once with --accept-cache-loss, which gives up what only its cache holds",
    );
  }
  return refused(
    true,
    "the write cache is not the one that this array used last (a foreign nonce: an older image of it, or a swapped device); " +
      `${untouched}; put the right cache back, or start once with --accept-cache-loss`,
  );
}

/** What the shelf says of the cache that counts: the appliance's own, in a pair that of whoever has owned the array last. */
export function entryOf(
  caches: readonly CacheEntry[],
  names: { readonly appliance: string; readonly partner: string | null },
): CacheEntry | undefined {
  return caches.find(({ appliance }) => appliance === names.appliance || appliance === names.partner);
}

/** Gives cache and shelf a fresh nonce. `save` makes the entry durable on the shelf. */
export function renewNonce(
  options: {
    readonly nvram: Nvram;
    readonly entropy: Entropy;
    readonly arrayId: string;
    readonly appliance: string;
    /** What the shelf says now. `current` or `next` counts for a cache that has no nonce yet. */
    readonly entry: CacheEntry | undefined;
    /** See `CacheEntry`. */
    readonly needless: boolean;
  },
  save: (entry: CacheEntry, done: (error: StoreError | null) => void) => void,
  done: (error: StoreError | null) => void,
): void {
  const { nvram, appliance, arrayId, entry, needless } = options;
  const next = toHex(options.entropy.fill(new Uint8Array(16)));
  // The nonce that the cache has now: after a crash in the middle of a renewal it may be the one that was listed as next.
  const header = nvram.readHeader();
  const current = header.kind === "formatted" ? header.nonce : (entry?.current ?? entry?.next ?? null);
  // Whether the caches are needed changes with the second step: a start that ends here must not keep the partner from starting.
  save({ appliance, current, next, needless: entry?.needless === true }, (firstError) => {
    if (firstError !== null) return done(firstError);
    nvram.writeHeader(next, arrayId, (outcome) => {
      if (outcome === "failed") {
        nvram.fail();
        return done({ code: "disk-failed", text: "the write cache could not be persisted" });
      }
      save({ appliance, current: next, next: null, needless }, done);
    });
  });
}
