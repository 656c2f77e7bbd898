import type { Entropy } from "../api/entropy.ts";

/** What one call of getRandomValues may fill, bytes (Web Crypto). */
const fillBytesMax = 65536;

/** The kernel's random bytes. */
export const linuxEntropy: Entropy = {
  fill(target: Uint8Array): Uint8Array {
    for (let offset = 0; offset < target.byteLength; offset += fillBytesMax) {
      crypto.getRandomValues(target.subarray(offset, offset + fillBytesMax) as Uint8Array<ArrayBuffer>);
    }
    return target;
  },
};
