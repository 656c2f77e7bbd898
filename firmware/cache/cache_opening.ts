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
import type { Nvram } from "./nvram.ts";

export type CacheVerdict =
  /** The cache that the shelf expects: its records count. */
  | { readonly kind: "trusted" }
  /** Blank: a new array, or a replaced cache; nothing in it counts. */
  | { readonly kind: "blank"; readonly expected: boolean }
  /** Not this array's, or not the newest: not used, not overwritten. */
  | { readonly kind: "refused"; readonly text: string };

export function judgeCache(nvram: Nvram, arrayId: string, entry: CacheEntry | undefined): CacheVerdict {
  const header = nvram.readHeader();
  if (header.kind === "refused") return { kind: "refused", text: header.text };
  const expected = entry !== undefined && (entry.current !== null || entry.next !== null);
  if (header.kind === "blank") return { kind: "blank", expected };
  if (header.arrayId !== arrayId) {
    return {
      kind: "refused",
      text: `the write cache belongs to another array (${header.arrayId}); it is not used and not overwritten`,
    };
  }
  if (expected && (header.nonce === entry.current || header.nonce === entry.next)) return { kind: "trusted" };
  return {
    kind: "refused",
    text:
      "the write cache is not the one that this array used last (a foreign nonce: an older image of it, or a swapped device); " +
      "it is not replayed and not overwritten; put the right cache back, or start once with --accept-cache-loss",
  };
}

/** Gives cache and shelf a fresh nonce. `save` makes the entry durable on the shelf. */
export function renewNonce(
  options: {
    readonly nvram: Nvram;
    readonly entropy: Entropy;
    readonly arrayId: string;
    readonly appliance: string;
    readonly current: string | null;
  },
  save: (entry: CacheEntry, done: (error: StoreError | null) => void) => void,
  done: (error: StoreError | null) => void,
): void {
  const { nvram, appliance, arrayId } = options;
  const next = toHex(options.entropy.fill(new Uint8Array(16)));
  save({ appliance, current: options.current, next }, (firstError) => {
    if (firstError !== null) return done(firstError);
    nvram.writeHeader(next, arrayId, (outcome) => {
      if (outcome === "failed") return done({ code: "disk-failed", text: "the write cache could not be persisted" });
      save({ appliance, current: next, next: null }, done);
    });
  });
}
