/** Every limit of an update. */

const mebibyte = 1024 * 1024;

export const updateLimits = {
  /** Three parts and some names: 600 bytes. */
  manifestBytesMax: 64 * 1024,
  /** Kernel and initrd of one slot. The ESP has 96 MiB for two of them and the boot loader: 2 x 44 + 4 < 96. */
  bootBytesMax: 44 * mebibyte,
  /** Two slots, each with a version and a reason: 1 KiB. */
  notesBytesMax: 16 * 1024,
  /** A root is read back in pieces of this. */
  readBytes: mebibyte,
  /** So long after the kernel's start a version on trial has to be good: starting takes seconds, a large log minutes. */
  trialLimitMs: 15 * 60_000,
  /** Degraded so many looks in a row, it is given up: an address that comes late is none of its faults. 30 s. */
  degradedLooks: 15,
  /** It has to be healthy so many looks in a row, so far apart. */
  steadyLooks: 5,
  lookEveryMs: 2000,
} as const;

/** Of dm-verity's data and tree: a root is a whole number of them. */
export const verityBlockBytes = 4096;
