/**
 * The standby's side of the mirrored cache: it keeps the owner's bytes in its own module.
 *
 * Invariants:
 * - A copy that is going to be changed into another one does not look like a good one meanwhile: its header is wiped, durably, before
 *   the first byte. Where it carries the owner's own nonce it is the same copy, and stays good throughout.
 * - `mirrored` is said of a frame when everything through it is durable here, and to whoever sent it: not in a later session.
 * - What does not lie within the cache is refused and not stored.
 */
import type { Digests } from "../../hal/api/digests.ts";
import type { WriteCache } from "../../hal/api/write_cache.ts";
import { headerAreaBytes } from "../cache/nvram.ts";
import type { PairMessage, PairMessageOf } from "./frame.ts";
import { pairLimits } from "./limits.ts";
import { pageDigestBytes, pageDigests } from "./page_digests.ts";

export interface CopyTargetOptions {
  readonly cache: WriteCache;
  readonly digests: Digests;
  /** The nonce of the own cache; null: it has none, or none that is whole. */
  nonce(): string | null;
  send(message: PairMessage, payload?: readonly Uint8Array[]): void;
  /** The owner has broken the language; a sentence. */
  broken(text: string): void;
}

/** To the owner, of the cache here. */
const cacheFailed = "its write cache has failed to persist what it was given; replace it, and restart that appliance";

export class CopyTarget {
  readonly #options: CopyTargetOptions;
  #open = false;
  /** Counts copies: what was begun for a former one says nothing of this one. */
  #copy = 0;

  constructor(options: CopyTargetOptions) {
    this.#options = options;
  }

  /** The owner has been this appliance: its bytes are the partner's. */
  adopt(): void {
    this.#copy++;
    this.#open = true;
  }

  close(): void {
    this.#copy++;
    this.#open = false;
  }

  /** False: not a message for a copy. */
  onMessage(message: PairMessage, payload: Uint8Array): boolean {
    if (message.kind === "attach") this.#attach(message.nonce);
    else if (message.kind === "mirror") this.#mirror(message, payload);
    else if (message.kind === "compare") this.#compare(message, payload);
    else return false;
    return true;
  }

  #attach(theirNonce: string | null): void {
    const { cache, send } = this.#options;
    this.#open = false;
    const copy = ++this.#copy;
    const nonce = this.#options.nonce();
    const accept = () => {
      this.#open = true;
      send({ kind: "attached", refusal: "" });
    };
    if (nonce !== null && nonce === theirNonce) return accept();
    cache.memory.fill(0, 0, headerAreaBytes);
    cache.wrote(0, headerAreaBytes);
    cache.persist((outcome) => {
      if (copy !== this.#copy) return;
      if (outcome === "persisted") accept();
      else send({ kind: "attached", refusal: cacheFailed });
    });
  }

  #mirror(message: PairMessageOf<"mirror">, payload: Uint8Array): void {
    if (!this.#open) return;
    const { cache, send } = this.#options;
    const fault = this.#rangeFault(message, payload.byteLength);
    if (fault !== null) return this.#break(fault);
    let at = 0;
    message.offsets.forEach((offset, index) => {
      const length = message.lengths[index]!;
      cache.memory.set(payload.subarray(at, at + length), offset);
      cache.wrote(offset, length);
      at += length;
    });
    const copy = this.#copy;
    cache.persist((outcome) => {
      if (!this.#open || copy !== this.#copy) return;
      if (outcome === "persisted") return send({ kind: "mirrored", frame: message.frame });
      this.#open = false;
      send({ kind: "mirrorFailed", text: cacheFailed });
    });
  }

  #rangeFault({ offsets, lengths }: PairMessageOf<"mirror">, payloadBytes: number): string | null {
    const { sizeBytes } = this.#options.cache;
    let total = 0;
    for (let index = 0; index < offsets.length; index++) {
      const end = offsets[index]! + lengths[index]!;
      if (end > sizeBytes) return `a store through byte ${end} of a cache of ${sizeBytes}`;
      total += lengths[index]!;
    }
    return total === payloadBytes ? null : `ranges of ${total} bytes with ${payloadBytes} of payload`;
  }

  #compare({ offset, pageBytes }: PairMessageOf<"compare">, theirs: Uint8Array): void {
    if (!this.#open) return;
    const { cache, digests, send } = this.#options;
    if (offset >= cache.sizeBytes || theirs.byteLength > pairLimits.comparePagesMax * pageDigestBytes)
      return this.#break(`digests of ${theirs.byteLength} bytes for pages from ${offset} on`);
    const ours = pageDigests(cache.memory, offset, pageBytes, pairLimits.comparePagesMax, digests);
    if (ours.byteLength !== theirs.byteLength)
      return this.#break(`${theirs.byteLength} bytes of digests, and this cache has ${ours.byteLength} there`);
    const pages: number[] = [];
    for (let page = 0; page * pageDigestBytes < ours.byteLength; page++) {
      const at = page * pageDigestBytes;
      const isSame = ours.subarray(at, at + pageDigestBytes).every((byte, index) => byte === theirs[at + index]);
      if (!isSame) pages.push(page);
    }
    send({ kind: "differs", offset, pages });
  }

  #break(text: string): void {
    this.#open = false;
    this.#options.broken(text);
  }
}
