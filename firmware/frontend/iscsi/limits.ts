/**
 * Every bound of the iSCSI front end, with its arithmetic. `checkIscsiLimits` holds them against each other at start.
 *
 * Memory that hosts can make the appliance hold, at worst:
 *   sessionsMax * guaranteedBytes          1,024 * 256 KiB = 256 MiB   (every session stalled with its own allowance full)
 *   + sharedBytesMax                                         128 MiB   (data beyond the allowances, all sessions together)
 *   + buffers kept for reuse (`keptBytesMax`)                 32 MiB
 *   + pings, text and PDUs ahead of their turn: sessionsMax * (pingBytesMax + textBytesMax + aheadBytesMax)
 *                                          1,024 * 144 KiB = 144 MiB
 *   + half-open logins, halfOpenMax * loginTextBytesMax       16 MiB
 *   + tasks, sessionsMax * (tasksMax + 16) * 1 KiB           144 MiB   (a task without data: object, CDB, sense)
 *   = 720 MiB; a well-behaved site with 16 sessions at depth 32 of 4 KiB holds 16 * 160 KiB = 2.5 MiB.
 *
 * A session's tasks are fewer than the window alone allows while its data fills half of `sessionBytesMax`: MaxCmdSN then stands still.
 */
import { assert } from "../../codec/assert.ts";
import { loginSegmentBytes, segmentBytesMax } from "./constants.ts";

export interface IscsiLimits {
  /** Open connections; one more is closed at once. 1,000 hosts, and some room for reconnects that overtake their own close. */
  readonly sessionsMax: number;
  /** Connections that have not logged in; one more, and the oldest is closed: a login takes milliseconds, a flood lasts. */
  readonly halfOpenMax: number;
  /** From accept to full feature. A login with mutual CHAP takes 5 round trips: 15 s allows 3 s for each. */
  readonly loginMs: number;
  /** Login requests of one connection: security 4, operational 2, the rest for text cut into small pieces. */
  readonly loginRequestsMax: number;
  /** The text of one negotiation, all its pieces together (6.1: at least 8 KiB must be taken). */
  readonly loginTextBytesMax: number;
  /** Keys in one negotiation: RFC 7143 has 27, Linux sends 18. */
  readonly keysMax: number;
  /** Failed logins of one address at once; after that one per `failedLoginMs`. */
  readonly failedLoginsMax: number;
  readonly failedLoginMs: number;
  /** Addresses of failed logins that are remembered. */
  readonly addressesMax: number;
  /** How long a closing session may take to have its last replies read. */
  readonly closingMs: number;
  /** How long an initiator that was asked to log out may take (11.9.1). */
  readonly logoutMs: number;
  /**
   * A session that sent nothing this long is pinged; one that then sends nothing once more as long is dead. An initiator in a library
   * answers only while its program waits for it: a program that sleeps for a minute must not lose its session.
   */
  readonly pingMs: number;
  /** While others wait for memory, a session that holds shared memory and neither sends nor reads this long is closed. */
  readonly stallMs: number;
  /** The MaxRecvDataSegmentLength that is declared. */
  readonly receiveSegmentBytesMax: number;
  /** The largest MaxBurstLength and FirstBurstLength agreed to. */
  readonly burstBytesMax: number;
  readonly firstBurstBytesMax: number;
  readonly outstandingR2tMax: number;
  /** The CmdSN window: Linux queues 128 per session, ESXi 128, Windows 255 over all. */
  readonly tasksMax: number;
  /** Immediate commands beyond the window (task management, pings). */
  readonly immediateTasksMax: number;
  /** The data of one write, MAXIMUM TRANSFER LENGTH at most. */
  readonly writeBytesMax: number;
  /** The data of one ping; initiators send 4 KiB at most. A longer one is rejected. */
  readonly pingBytesMax: number;
  /** The text of one exchange after the login: SendTargets, mostly. */
  readonly textBytesMax: number;
  /** PDUs kept because those before them have not come, their data together; more are as good as lost. */
  readonly aheadBytesMax: number;
  /** Data in flight and replies unsent of one session: two of the largest writes. */
  readonly sessionBytesMax: number;
  /** What one session always gets: depth 32 of 4 KiB (32 * 4,148 = 130 KiB), and a segment that waits to be sent. */
  readonly guaranteedBytes: number;
  /** What all sessions may hold beyond that, together: four of the largest writes. */
  readonly sharedBytesMax: number;
  /** Unsent replies of one session beyond which nothing more is read for it: twice the socket buffer that Linux grants on loopback. */
  readonly outputBacklogBytes: number;
  /** Buffers kept for reuse, all sizes together. */
  readonly keptBytesMax: number;
}

const KiB = 1024;
const MiB = 1024 * KiB;

export const defaultIscsiLimits: IscsiLimits = {
  sessionsMax: 1024,
  halfOpenMax: 256,
  loginMs: 15_000,
  loginRequestsMax: 64,
  loginTextBytesMax: 64 * KiB,
  keysMax: 128,
  failedLoginsMax: 20,
  failedLoginMs: 1000,
  addressesMax: 4096,
  closingMs: 10_000,
  logoutMs: 3000,
  pingMs: 40_000,
  stallMs: 30_000,
  receiveSegmentBytesMax: 256 * KiB,
  burstBytesMax: 1 * MiB,
  firstBurstBytesMax: 256 * KiB,
  outstandingR2tMax: 8,
  tasksMax: 128,
  immediateTasksMax: 16,
  writeBytesMax: 32 * MiB,
  pingBytesMax: 64 * KiB,
  textBytesMax: 16 * KiB,
  aheadBytesMax: 64 * KiB,
  sessionBytesMax: 64 * MiB,
  guaranteedBytes: 256 * KiB,
  sharedBytesMax: 128 * MiB,
  outputBacklogBytes: 4 * MiB,
  keptBytesMax: 32 * MiB,
};

/** Throws when the limits contradict each other: a session could then wait for ever. */
export function checkIscsiLimits(limits: IscsiLimits): void {
  assert(limits.halfOpenMax >= 1 && limits.halfOpenMax <= limits.sessionsMax, "iscsi limits: half-open are sessions");
  assert(limits.loginTextBytesMax >= loginSegmentBytes, "iscsi limits: one login segment is taken");
  assert(limits.textBytesMax >= loginSegmentBytes, "iscsi limits: text of one segment is taken");
  assert(limits.pingBytesMax >= 4096 && limits.aheadBytesMax >= 4096, "iscsi limits: what initiators send is taken");
  assert(limits.receiveSegmentBytesMax >= 512, "iscsi limits: MaxRecvDataSegmentLength is at least 512");
  assert(limits.receiveSegmentBytesMax <= segmentBytesMax, "iscsi limits: a data segment's length has 24 bits");
  assert(limits.firstBurstBytesMax <= limits.burstBytesMax, "iscsi limits: a first burst is a burst");
  assert(limits.burstBytesMax <= segmentBytesMax, "iscsi limits: a burst's length has 24 bits");
  assert(limits.firstBurstBytesMax >= 512, "iscsi limits: bursts are at least 512");
  assert(limits.outstandingR2tMax >= 1 && limits.tasksMax >= 1, "iscsi limits: at least one");
  assert(limits.writeBytesMax <= limits.sessionBytesMax, "iscsi limits: one write fits a session");
  assert(limits.sessionBytesMax <= limits.sharedBytesMax, "iscsi limits: one session fits the shared memory");
  assert(limits.guaranteedBytes >= 512, "iscsi limits: a session without shared memory can answer");
  assert(limits.outputBacklogBytes <= limits.sessionBytesMax, "iscsi limits: the backlog is part of a session's bytes");
  assert(limits.tasksMax < 2 ** 31, "iscsi limits: serial numbers compare over less than half their range");
}
