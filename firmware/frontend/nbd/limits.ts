/**
 * Every bound of the NBD front end, with its arithmetic. `checkNbdLimits` holds them against each other at start.
 *
 * Memory that hosts can make the appliance hold, at worst:
 *   sessionsMax * guaranteedBytes          1,024 * 256 KiB = 256 MiB   (every session stalled with its own allowance full)
 *   + sharedBytesMax                                         128 MiB   (requests beyond the allowances, all sessions together)
 *   + buffers kept for reuse (`keptBytesMax`)                 32 MiB
 *   + option data, sessionsMax * optionDataBytesMax           64 MiB
 *   = 480 MiB (buffers are at most twice what they hold); a well-behaved site with 16 sessions at depth 32 of 4 KiB holds 16 * 132 KiB = 2 MiB.
 */
import { assert } from "../../codec/assert.ts";
import { logicalBlockBytes } from "../../volume/block_request.ts";

export interface NbdLimits {
  /** Open sessions; one more is closed at once. 1,000 hosts, and some room for reconnects that overtake their own close. */
  readonly sessionsMax: number;
  /** From accept to the transmission phase. Handshakes take 3 to 8 round trips: 15 s allows 1.8 s for each. */
  readonly handshakeMs: number;
  /** Failed handshakes of one address at once; after that one per `failedLoginMs`. A host in order fails none. */
  readonly failedLoginsMax: number;
  readonly failedLoginMs: number;
  /** Addresses whose failures are remembered: 4,096 of about 100 bytes. */
  readonly addressesMax: number;
  /** How long a closing session may take to have its last replies read. */
  readonly closingMs: number;
  /** While others wait for memory, a session that holds shared memory and neither sends nor reads this long is closed. */
  readonly stallMs: number;
  /** Options in one handshake: real clients send at most ten. */
  readonly optionsMax: number;
  /** Option data looked at: name 4 KiB + 14 queries of 4 KiB fit. Longer data is skipped and refused (ERR_TOO_BIG). */
  readonly optionDataBytesMax: number;
  /** Option data skipped at most; a longer one closes the session. The largest length that any other message may have. */
  readonly optionSkipBytesMax: number;
  /** The specification's maximum for a string. */
  readonly nameBytesMax: number;
  /** The largest READ or WRITE: what NBD_INFO_BLOCK_SIZE tells, and what clients assume without it. */
  readonly requestBytesMax: number;
  readonly preferredBlockBytes: number;
  /** Requests in flight of one session: twice the Linux kernel's queue of 128, four times libnbd's 64. */
  readonly requestsInFlightMax: number;
  /** Payload in flight and replies unsent of one session: two requests of 32 MiB. */
  readonly sessionBytesMax: number;
  /** What one session always gets: depth 32 of 4 KiB (32 * 4,124 = 129 KiB) twice, once in flight and once unsent. */
  readonly guaranteedBytes: number;
  /** What all sessions may hold beyond that, together: four of the largest requests. */
  readonly sharedBytesMax: number;
  /** Unsent replies of one session beyond which its input waits: twice the socket buffer of 2 MiB that Linux grants on loopback. */
  readonly outputBacklogBytes: number;
  /** Buffers kept for reuse, all sizes together. */
  readonly keptBytesMax: number;
  /** Descriptors of one BLOCK_STATUS reply: 8 KiB of them. */
  readonly extentsMax: number;
}

const KiB = 1024;
const MiB = 1024 * KiB;

export const defaultNbdLimits: NbdLimits = {
  sessionsMax: 1024,
  handshakeMs: 15_000,
  failedLoginsMax: 20,
  failedLoginMs: 1000,
  addressesMax: 4096,
  closingMs: 10_000,
  stallMs: 30_000,
  optionsMax: 256,
  optionDataBytesMax: 64 * KiB,
  optionSkipBytesMax: 32 * MiB,
  nameBytesMax: 4096,
  requestBytesMax: 32 * MiB,
  preferredBlockBytes: 4096,
  requestsInFlightMax: 256,
  sessionBytesMax: 64 * MiB,
  guaranteedBytes: 256 * KiB,
  sharedBytesMax: 128 * MiB,
  outputBacklogBytes: 4 * MiB,
  keptBytesMax: 32 * MiB,
  extentsMax: 1024,
};

/** Throws when the limits contradict each other: a session could then wait for ever. */
export function checkNbdLimits(limits: NbdLimits): void {
  assert(limits.requestBytesMax % logicalBlockBytes === 0, "nbd limits: the largest request is whole blocks");
  assert(limits.requestBytesMax < 2 ** 32 - 8, "nbd limits: a reply's length field holds 32 bits");
  assert(limits.sessionBytesMax >= limits.requestBytesMax, "nbd limits: one request fits a session");
  assert(limits.sharedBytesMax >= limits.sessionBytesMax, "nbd limits: one session fits the shared memory");
  assert(limits.outputBacklogBytes <= limits.sessionBytesMax, "nbd limits: the backlog is part of a session's bytes");
  assert(limits.optionSkipBytesMax >= limits.optionDataBytesMax, "nbd limits: what is looked at may be received");
  assert(limits.optionDataBytesMax >= limits.nameBytesMax + 8, "nbd limits: a name fits the option data");
  assert(limits.failedLoginsMax >= 1 && limits.addressesMax >= 1, "nbd limits: an address may fail once");
  assert(limits.requestsInFlightMax >= 1 && limits.extentsMax >= 1, "nbd limits: at least one");
}
