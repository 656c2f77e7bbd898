/** Native checksums, passed in so that cores need no runtime. */
export interface Digests {
  /** CRC-32 (IEEE 802.3, as zlib's), 0 to 2^32 - 1. */
  crc32(bytes: Uint8Array): number;
  /** SHA-256 (FIPS 180-4) in one call: 32 bytes. */
  sha256(bytes: Uint8Array): Uint8Array;
}
