import type { Digests } from "../api/digests.ts";

/** Bun's native checksums: crc32 at several GB/s, sha256 at 1.6 GB/s. */
export const linuxDigests: Digests = {
  crc32(bytes: Uint8Array): number {
    return Bun.hash.crc32(bytes) >>> 0;
  },
  sha256(bytes: Uint8Array): Uint8Array {
    return new Bun.CryptoHasher("sha256").update(bytes).digest();
  },
};
