/** What iSCSI needs from native code, passed in so that this room needs no runtime. */

export interface IscsiDigests {
  /** CRC-32C (Castagnoli, RFC 7143 13.1) of `bytes`, going on from the finished CRC of what came before. 0 to 2^32 - 1. */
  crc32c(bytes: Uint8Array, previous?: number): number;
}

export type ChapHash = "md5" | "sha1" | "sha256" | "sha3-256";

export interface ChapHashes {
  /** The hash of all parts, in order. */
  hash(algorithm: ChapHash, parts: readonly Uint8Array[]): Uint8Array;
}
