import type { ChapHash, Digests } from "../api/digests.ts";
import { linuxCrc32c } from "./crc32c.ts";

/** Bun's native checksums: crc32 at several GB/s, sha256 at 1.6 GB/s. */
export const linuxDigests: Digests = {
  crc32(bytes: Uint8Array): number {
    return Bun.hash.crc32(bytes) >>> 0;
  },
  crc32c: linuxCrc32c,
  sha256(bytes: Uint8Array): Uint8Array {
    return new Bun.CryptoHasher("sha256").update(bytes).digest();
  },
  hash(algorithm: ChapHash, parts: readonly Uint8Array[]): Uint8Array {
    const hasher = new Bun.CryptoHasher(algorithm);
    for (const part of parts) hasher.update(part);
    return hasher.digest();
  },
};
