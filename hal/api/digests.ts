/** The hashes of CHAP (RFC 1994 4.1, IANA "PPP Authentication Algorithms"). */
export type ChapHash = "md5" | "sha1" | "sha256" | "sha3-256";

/** Native checksums, passed in so that cores need no runtime. */
export interface Digests {
  /** CRC-32 (IEEE 802.3, as zlib's), 0 to 2^32 - 1. */
  crc32(bytes: Uint8Array): number;
  /**
   * CRC-32C (Castagnoli, RFC 7143 13.1), 0 to 2^32 - 1. Scattered pieces: `previous` is the finished CRC of all that came before.
   */
  crc32c(bytes: Uint8Array, previous?: number): number;
  /** SHA-256 (FIPS 180-4) in one call: 32 bytes. */
  sha256(bytes: Uint8Array): Uint8Array;
  /** The hash of all parts, in order. */
  hash(algorithm: ChapHash, parts: readonly Uint8Array[]): Uint8Array;
}
