/**
 * A small document (CBOR, up to `rootSlotBytes`) in two slots that are written alternately, on each of the pool's metadata disks:
 * the pool's own document and every group's root. A torn write leaves the other slot; a lost disk leaves the other disk.
 *
 * A slot, little-endian: byte 0 CRC-32 of everything behind it up to the end of the body; 4 magic; 8 format version (u32);
 * 12 owner (group number, 0 for the pool); 16 pool tag (8); 24 generation (two u32); 32 body length (u32); 36 which slot (u32);
 * 40 offset on the disk (two u32); 48..63 zero; 64 the body.
 *
 * Invariants:
 * - The newest generation that is whole on any disk is the document.
 * - After `load` every metadata disk that is there holds that generation: what was read can not be taken back by losing a disk.
 */
import type { Digests } from "../../hal/api/digests.ts";
import type { DiskError } from "../../hal/api/shelf.ts";
import { assert } from "../codec/assert.ts";
import { decodeBody, encodeBody } from "./cbor_body.ts";
import type { DiskSet } from "./disk_set.ts";
import { formatVersion, pageBytes, rootSlotBytes } from "./geometry.ts";
import { getNumber, putNumber } from "./page_seal.ts";

const magic = 0x52534347; // "GCSR"
const bodyOffset = 64;
export const slotBodyBytesMax = rootSlotBytes - bodyOffset;

export interface SlotPlace {
  readonly owner: number;
  readonly poolTag0: number;
  readonly poolTag1: number;
  /** Offsets of slot A and B on every metadata disk. */
  readonly offsets: readonly [number, number];
}

export type SlotLoad =
  | { readonly kind: "loaded"; readonly body: unknown; readonly bodyBytes: Uint8Array }
  /** Nothing whole in any slot. */
  | { readonly kind: "corrupt"; readonly text: string }
  | { readonly kind: "failed"; readonly error: DiskError };

interface FoundSlot {
  readonly disk: number;
  readonly slot: number;
  readonly generation: number;
  readonly image: Uint8Array;
}

export class SlotPair {
  generation: number;
  #slot: number;
  readonly #disks: DiskSet;
  readonly #digests: Digests;
  readonly #place: SlotPlace;

  constructor(disks: DiskSet, digests: Digests, place: SlotPlace) {
    this.generation = 0;
    this.#slot = 1;
    this.#disks = disks;
    this.#digests = digests;
    this.#place = place;
  }

  /** Reads the newest whole document, and brings every metadata disk up to it. */
  load(done: (result: SlotLoad) => void): void {
    this.#find((result, found) => {
      const best = found[0];
      if (result.kind !== "loaded" || !best) {
        done(result);
        return;
      }
      this.generation = best.generation;
      this.#slot = best.slot;
      const isNewest = (slot: FoundSlot) => slot.generation === best.generation;
      const lacking = this.#present().filter((disk) => !found.some((slot) => slot.disk === disk && isNewest(slot)));
      this.#copyTo(lacking, best.image, (error) => done(error ? { kind: "failed", error } : result));
    });
  }

  /** The same without writing anything: for slots whose owner is somebody else. */
  peek(done: (result: SlotLoad) => void): void {
    this.#find((result) => done(result));
  }

  /** Generations from now on are higher than this one: the document has been somewhere else before. */
  startAbove(generation: number): void {
    assert(this.generation === 0, "the slots have been used already");
    this.generation = generation;
  }

  /** `found` has the document's slot first. */
  #find(done: (result: SlotLoad, found: readonly FoundSlot[]) => void): void {
    const found: FoundSlot[] = [];
    const present = this.#present();
    let open = present.length * 2;
    let failed: DiskError | null = null;
    assert(open > 0, "a pool is open only with a metadata disk");
    const finish = () => {
      const newest = found.reduce((best, slot) => Math.max(best, slot.generation), 0);
      const at = found.findIndex((slot) => slot.generation === newest);
      if (at < 0) {
        done(failed ? { kind: "failed", error: failed } : { kind: "corrupt", text: "no slot is whole" }, []);
        return;
      }
      const best = found.splice(at, 1)[0]!;
      const bodyBytes = best.image.subarray(bodyOffset, bodyOffset + lengthOf(best.image));
      const body = decodeBody(bodyBytes);
      if (body === undefined) done({ kind: "corrupt", text: "the body can not be decoded" }, []);
      else done({ kind: "loaded", body: body.value, bodyBytes }, [best, ...found]);
    };
    for (const disk of present) {
      for (const slot of [0, 1]) {
        const image = new Uint8Array(rootSlotBytes);
        this.#disks.read(disk, this.#place.offsets[slot]!, image, (error) => {
          failed = failed ?? error;
          if (!error && this.#whole(image, slot))
            found.push({ disk, slot, generation: getNumber(wordsOf(image), 6), image });
          open -= 1;
          if (open === 0) finish();
        });
      }
    }
  }

  #present(): number[] {
    return this.#disks.metadataDisks.filter((disk) => this.#disks.disks[disk] !== null);
  }

  /** Writes the next generation into the older slot and makes it durable. False: too large, nothing was written. */
  save(body: Uint8Array, done: (error: DiskError | null) => void): boolean {
    if (body.byteLength > slotBodyBytesMax) return false;
    const slot = 1 - this.#slot;
    // The generation grows even when the write fails: what it left behind on one disk must not be taken for its successor.
    this.generation += 1;
    const image = this.#encode(body, slot, this.generation);
    this.#writeTo(this.#present(), slot, image, (error) => {
      if (!error) this.#slot = slot;
      done(error);
    });
    return true;
  }

  #copyTo(disks: readonly number[], image: Uint8Array, done: (error: DiskError | null) => void): void {
    const length = Math.ceil((bodyOffset + lengthOf(image)) / pageBytes) * pageBytes;
    this.#writeTo(disks, this.#slot, image.subarray(0, length), done);
  }

  #writeTo(disks: readonly number[], slot: number, image: Uint8Array, done: (error: DiskError | null) => void): void {
    let open = disks.length;
    let failed: DiskError | null = null;
    if (open === 0) {
      done(null);
      return;
    }
    for (const disk of disks) {
      this.#disks.write(disk, this.#place.offsets[slot]!, [image], (error) => {
        failed = failed ?? error;
        open -= 1;
        if (open > 0) return;
        if (failed) done(failed);
        else this.#disks.flushAll(disks, done);
      });
    }
  }

  #encode(body: Uint8Array, slot: number, generation: number): Uint8Array {
    const image = new Uint8Array(Math.ceil((bodyOffset + body.byteLength) / pageBytes) * pageBytes);
    const words = wordsOf(image);
    words[1] = magic;
    words[2] = formatVersion;
    words[3] = this.#place.owner;
    words[4] = this.#place.poolTag0;
    words[5] = this.#place.poolTag1;
    putNumber(words, 6, generation);
    words[8] = body.byteLength;
    words[9] = slot;
    putNumber(words, 10, this.#place.offsets[slot]!);
    image.set(body, bodyOffset);
    words[0] = this.#digests.crc32(image.subarray(4, bodyOffset + body.byteLength));
    return image;
  }

  #whole(image: Uint8Array, slot: number): boolean {
    const words = wordsOf(image);
    const length = lengthOf(image);
    return (
      words[1] === magic &&
      words[2] === formatVersion &&
      words[3] === this.#place.owner &&
      words[4] === this.#place.poolTag0 &&
      words[5] === this.#place.poolTag1 &&
      words[9] === slot &&
      getNumber(words, 10) === this.#place.offsets[slot] &&
      length <= slotBodyBytesMax &&
      words[0] === this.#digests.crc32(image.subarray(4, bodyOffset + length))
    );
  }
}

export function slotBody(value: unknown): Uint8Array {
  return encodeBody(value);
}

function wordsOf(image: Uint8Array): Uint32Array {
  return new Uint32Array(image.buffer, image.byteOffset, bodyOffset / 4);
}

function lengthOf(image: Uint8Array): number {
  return wordsOf(image)[8]!;
}
