/** Every bound of the SCSI device server, with its arithmetic. */
import { assert } from "../../codec/assert.ts";

export const scsiLimits = {
  /** Tasks of all nexuses on one logical unit; one more gets TASK SET FULL. 16 sessions with 128 commands each. */
  taskSetMax: 2048,
  /** Unit attentions that wait for one nexus on one unit; the oldest ones tell the least. */
  attentionsMax: 8,
  /** LUNs as hosts address them: one byte of the peripheral device addressing method (SAM-5 4.7.7.2). */
  lunsMax: 256,
  /** One READ, WRITE, VERIFY: 32 MiB, as the NBD front end. In logical blocks. */
  transferBlocksMax: 65536,
  /** COMPARE AND WRITE's number of blocks is one byte (SBC-4 5.3); its data is twice that: 255 KiB. */
  compareBlocksMax: 255,
  /** WRITE SAME: a zero or unmap is one extent whatever its length; a pattern is written out, 8 MiB at a time. */
  writeSamePartBlocks: 16384,
  /** WRITE SAME, one command: 128 MiB, a second of work at worst; the host may abort it between parts. */
  writeSameBlocksMax: 262144,
  /** Atomic writes begin and end at physical blocks. */
  atomicBlocks: 8,
  /** SANITIZE OVERWRITE leaves the cache and the shelf to the hosts of other volumes: 64 MiB/s, 8 MiB every 125 ms. */
  sanitizePartMs: 125,
  /** UNMAP: 256 descriptors of 4 GiB blocks; the list is 8 + 256 x 16 bytes. */
  unmapDescriptorsMax: 256,
  /** UNMAP: logical blocks of one command: 2^32 - 1 as the field holds. */
  unmapBlocksMax: 0xffffffff,
  /** VERIFY without data, PREFETCH-like reads, comparisons: read in parts of 1 MiB. */
  readPartBlocks: 2048,
  /** Such parts of all commands of all hosts at a time: 16 MiB. */
  partBuffersMax: 16,
  /** Parameter lists: the longest is EXTENDED COPY's. */
  parameterListBytesMax: 65535,
} as const;

assert(scsiLimits.transferBlocksMax * 512 <= 32 * 1024 * 1024, "scsi limits: one transfer fits a session's memory");
assert(scsiLimits.unmapDescriptorsMax * 16 + 8 <= scsiLimits.parameterListBytesMax, "scsi limits: an UNMAP list fits");

/** EXTENDED COPY, as its operating parameters tell. */
export const copyLimits = {
  targetsMax: 8,
  segmentsMax: 16,
  /** 8 x 32 + 16 x 28. */
  descriptorListBytesMax: 704,
  /** A segment's number of blocks is two bytes. */
  segmentBlocksMax: 65535,
  /** Finished copies that a nexus may still ask for. */
  recordsMax: 16,
} as const;

assert(
  copyLimits.targetsMax * 32 + copyLimits.segmentsMax * 28 <= copyLimits.descriptorListBytesMax,
  "scsi limits: as many descriptors as are offered fit the list",
);
