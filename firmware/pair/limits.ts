/** Every limit of the pair, with its arithmetic. Sizes in bytes, times in milliseconds. */
import { assert } from "../codec/assert.ts";

/** The two halves of an array; see `pair_appliance.ts`. */
export const halfNumbers = [0, 1] as const;
export type HalfNumber = (typeof halfNumbers)[number];

export const pairLimits = {
  /** A mirror frame has at most `rangesMax` ranges of twice 5 bytes, a Differs as many pages: 11 KiB, and a hello less. */
  headerBytesMax: 32 * 1024,
  /** One frame of stores: a heartbeat waits behind it for 8 ms at 1 Gbit/s. */
  payloadBytesMax: 1024 * 1024,
  rangesMax: 1024,
  /** Offsets are 32-bit words. */
  cacheBytesMax: 0xffff_f000,
  /** Pages are compared in slices: 64 digests of 8 bytes for 4 MiB. */
  comparePageBytes: 64 * 1024,
  comparePagesMax: 64,
  /** Slices asked about and not yet copied: 16 MiB, so that live writes wait for no more than that. */
  compareSlicesMax: 4,
  portalsMax: 32,
  /** Of a shelf, by a board profile. */
  slotsMax: 256,
  /** Ranges of slots in which an appliance has no disk, of up to `emptySlotsBytes` each: a name of 16, numbers, and what protobuf adds. */
  emptySlotsMax: 1000,
  emptySlotsBytes: 16 + "/100-255".length + 2,
  nameBytesMax: 255,
  textBytesMax: 1000,
  numberMax: 2 ** 52,
  /** Connections that have not said hello. */
  strangersMax: 16,
  /** Between two attempts to connect one NIC. */
  dialWaitMs: 50,
  /** An attempt that is not answered in this time is not waited for; a cable that is put back is found within about as long. */
  dialMs: 1000,
  attemptsMax: 8,
  /** Between two looks whether the pool has been made. */
  poolLookMs: 50,
  /** Between two looks whether a silent partner is dead. */
  lookMs: 5,
  /** Between two looks whether what hosts had under way has ended, before their group moves: they wait. */
  holdLookMs: 1,
  /** Then the group stays: hosts' commands wait for `waitMs` at most, and the way to the other half takes some of that. */
  holdQuietMs: 2000,
  /** A start waits so long for a partner that is down, so that both of a site that gets its power back meet first. */
  meetMs: 500,
  /** A partner that was not met since the start, or that owns nothing, is waited for so many times the limit. */
  strangerLimits: 5,
  /** A power port that calls a partner dead is believed against its count on the shelf when that has stood still for so long. */
  stillMs: 300,
  /** What the owner could not do for its copy (the shelf did not answer) is tried again after so long. */
  retryMs: 500,
  /** A standby rehearses a start so long after it began to follow: not while it starts itself. */
  rehearseAfterMs: 2000,
  /** What was rehearsed is still compiled: measured with a full collection every second, it was after 30 s, and not after 60. */
  rehearsalKeepsMs: 15_000,
  /** A hand-over waits so long until partner and shelf are ready for it; a rehearsal takes 2 to 5 s. Hosts go on meanwhile. */
  prepareMs: 10_000,
  /**
   * Before a hand-over hosts are answered for so long: what was done for it, and the taking of the other half, has kept them waiting too.
   * What they write meanwhile the partner reads in its cache: 1,000 writes at 20,000 per second, some 10 ms.
   */
  breathMs: 50,
  /** A hand-over waits so long for disk operations under way. */
  quietMs: 5000,
  /** So long after an owner was heard last its successor goes on with the groups that it served: the limit, a kill, and the start. */
  inheritMs: 10_000,
  /** So long an appliance that ends in order waits until the disks have its last word. */
  lastWordMs: 1000,
  /** An array's groups (manage/groups.ts): 64 ids of 16 bytes. */
  groupsMax: 64,
  /** Nexuses and open volumes of the partner's hosts: as many sessions as its ports take. */
  channelsMax: 2048,
  /** Host sessions that wait until somebody serves the array: one for each that the owner served. */
  waitingMax: 2048,
  /** So long: a takeover with its proof of death takes a second or two, and initiators give a login 15 s (open-iscsi). */
  waitMs: 5000,
  /** A new owner lets hosts in when its groups know their roles, and after so long whether they do or not: a peer may be away. */
  rolesMs: 2000,
  /** A service address outlives its owner's process by this at most: whole seconds, and the kernel may take one more. */
  holdMs: 5000,
  holdAgainMs: 1000,
  /** A new owner tells its neighbours with every hold for so long: what its dead predecessor left has stopped answering by then. */
  announceForMs: 10_000,
  /** Data that is being read for one nexus at the partner: a command of 1 MiB, and the next ones. One longer command goes alone. */
  windowBytes: 4 * 1024 * 1024,
  /** Data of one command: the most that front ends take (iSCSI writeBytesMax, NBD requestBytesMax, SCSI transferBlocksMax). */
  workBytesMax: 32 * 1024 * 1024,
  /** A forwarded management request, or one between the halves, and its answer: the 60 s that a command waits unless told otherwise, and grace. */
  callMs: 65_000,
  /** One that may wait for longer is given up so long after its time: the owner answers then by itself, 2 s late at the most. */
  callGraceMs: 5000,
  /** A status is answered without what a partner that is late has to say. */
  warningsMs: 300,
  callBytesMax: 4 * 1024 * 1024,
  /** The volumes of a half are 64 groups of 256, at 370 bytes: 6 MiB, and as much again for each salvage set that all have. */
  directoryBytesMax: 16 * 1024 * 1024,
} as const;

/** What a board profile may change. */
export interface PairTimes {
  /** A heartbeat goes out on every NIC, and through the shelf, so often. */
  readonly heartbeatMs: number;
  /** A partner of whom nothing was heard for so long is lost. */
  readonly limitMs: number;
  /** One whose heartbeats come, and whose main loop has not turned for so long, is lost as well. */
  readonly hungMs: number;
}

export function checkTimes(times: PairTimes): void {
  assert(times.heartbeatMs >= 1, "heartbeats have an interval");
  assert(times.limitMs >= 3 * times.heartbeatMs, "a partner outlives two lost heartbeats");
  assert(times.hungMs >= times.limitMs, "a loop that is late is not a hung one");
}

assert(pairLimits.rangesMax * 10 + 1024 <= pairLimits.headerBytesMax, "a full mirror frame fits");
assert(
  pairLimits.emptySlotsMax * pairLimits.emptySlotsBytes + pairLimits.groupsMax * 18 + pairLimits.textBytesMax + 512 <=
    pairLimits.headerBytesMax,
  "a full state frame fits",
);
assert(pairLimits.comparePagesMax <= pairLimits.rangesMax, "all pages of a slice fit into one answer");
assert(pairLimits.comparePageBytes <= pairLimits.payloadBytesMax, "a page fits into one frame");
