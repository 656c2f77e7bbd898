/** What iSCSI needs from native code, passed in so that this room needs no runtime. */
import type { Digests } from "../../../hal/api/digests.ts";

export type { ChapHash } from "../../../hal/api/digests.ts";

/** Header and data digests (RFC 7143 13.1). */
export type IscsiDigests = Pick<Digests, "crc32c">;

/** The hashes of CHAP (RFC 7143 12.1.3). */
export type ChapHashes = Pick<Digests, "hash">;
