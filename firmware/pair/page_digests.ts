/**
 * Digests by which the partners find the pages of the cache in which their copies differ: CRC-32 and CRC-32C of each page, 64 bits that
 * are independent of each other. Both are native; 256 MiB take some 60 ms. Chance alone is to be excluded, not malice: the partner
 * could write what it likes anyway.
 */
import type { Digests } from "../../hal/api/digests.ts";

export const pageDigestBytes = 8;

export function pageDigests(
  memory: Uint8Array,
  offset: number,
  pageBytes: number,
  pagesMax: number,
  digests: Digests,
): Uint8Array {
  const pages = Math.min(pagesMax, Math.ceil((memory.byteLength - offset) / pageBytes));
  const result = new Uint8Array(pages * pageDigestBytes);
  const view = new DataView(result.buffer);
  for (let page = 0; page < pages; page++) {
    const bytes = memory.subarray(offset + page * pageBytes, offset + (page + 1) * pageBytes);
    view.setUint32(page * pageDigestBytes, digests.crc32(bytes), true);
    view.setUint32(page * pageDigestBytes + 4, digests.crc32c(bytes), true);
  }
  return result;
}
