/**
 * What the cache remembers of the roots on the shelf: how often each group's root, and the pool's document, have been made durable.
 *
 * A root lies in two slots that are written alternately. When the newer one is damaged, or the disk is an older image of itself, the
 * older one looks like the present; but the log has let go of what came between, and roles, forks and hosts may be others since.
 * The number in the root and the one noted here tell.
 *
 * Layout: at byte 8,192 of the cache 128 entries of 64 bytes: u32 magic "GCRN", u32 crc32 of bytes 8 .. 64, 16B id, u64 number.
 *
 * Invariants:
 * - A number is noted when its root is durable, never before: a root with a lower number is not the newest.
 * - A note becomes durable with the next persist, as the wiped headers of the segments do that the log has let go meanwhile: a note
 *   that is lost with a power failure leaves the log behind that makes it unnecessary.
 */
import type { Digests } from "../../hal/api/digests.ts";
import { fromHex, getU64, setU64, toHex } from "../codec/bytes.ts";
import type { Region } from "../log/record.ts";

const notesAt = 8192;
const entryBytes = 64;
/** 64 groups and the pool, twice. */
const entriesMax = 128;
const magic = 0x4e524347;

/** "The root ..." */
export const staleText =
  "on the shelf is older than what was last written: its newest copy is damaged, or the disk is an older image of itself";

/** The id under which the pool's own document is noted. */
export const poolRootId = "0".repeat(32);

export class RootNotes {
  readonly #region: Region;
  readonly #digests: Digests;
  readonly #wrote: (at: number, byteCount: number) => void;

  constructor(region: Region, digests: Digests, wrote: (at: number, byteCount: number) => void) {
    this.#region = region;
    this.#digests = digests;
    this.#wrote = wrote;
  }

  /** The number noted for `id`; 0: none is. */
  numberOf(id: string): number {
    const at = this.#find(id);
    return at < 0 ? 0 : getU64(this.#region.view, at + 24);
  }

  note(id: string, number: number): void {
    const found = this.#find(id);
    const at = found < 0 ? this.#find(null) : found;
    // Without room nothing is noted: what the disks say is believed then.
    if (at < 0) return;
    const { bytes, view } = this.#region;
    bytes.fill(0, at, at + entryBytes);
    bytes.set(fromHex(id), at + 8);
    setU64(view, at + 24, number);
    view.setUint32(at + 4, this.#digests.crc32(bytes.subarray(at + 8, at + entryBytes)), true);
    view.setUint32(at, magic, true);
    this.#wrote(at, entryBytes);
  }

  forget(id: string): void {
    const at = this.#find(id);
    if (at >= 0) this.#clear(at);
  }

  keepOnly(ids: ReadonlySet<string>): void {
    for (let entry = 0; entry < entriesMax; entry++) {
      const at = notesAt + entry * entryBytes;
      const id = this.#idAt(at);
      if (id === null || !ids.has(id)) this.#clear(at);
    }
  }

  #clear(at: number): void {
    this.#region.bytes.fill(0, at, at + entryBytes);
    this.#wrote(at, entryBytes);
  }

  /** Where the entry of `id` stands; null: a free one. */
  #find(id: string | null): number {
    for (let entry = 0; entry < entriesMax; entry++) {
      const at = notesAt + entry * entryBytes;
      if (this.#idAt(at) === id) return at;
    }
    return -1;
  }

  #idAt(at: number): string | null {
    const { bytes, view } = this.#region;
    if (view.getUint32(at, true) !== magic) return null;
    if (this.#digests.crc32(bytes.subarray(at + 8, at + entryBytes)) !== view.getUint32(at + 4, true)) return null;
    return Number.isNaN(getU64(view, at + 24)) ? null : toHex(bytes.subarray(at + 8, at + 24));
  }
}
