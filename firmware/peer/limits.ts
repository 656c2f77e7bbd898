/**
 * Every limit of the peer link and of replication, with its arithmetic. Sizes in bytes, times in milliseconds.
 *
 * What an operator may set stands in `ReplicationSettings`; the rest is fixed, because both ends rely on it.
 */
import { assert } from "../codec/assert.ts";

export const linkLimits = {
  /** The largest header is a hello: 1,024 timelines of 30 bytes are 30 KiB, names and peers below 8 KiB. */
  headerBytesMax: 64 * 1024,
  /** One record alone may exceed `runBytesMax`: 1 MiB of payload with its header, checksum table and padding. */
  payloadBytesMax: 1024 * 1024 + 64 * 1024,
  /** One records frame: large enough that its header costs nothing, small enough that a heartbeat waits 2 ms at 1 Gbit/s. */
  runBytesMax: 256 * 1024,
  /** What is sent and not yet acknowledged: 16 MiB fills 1 Gbit/s over 130 ms of round trip. What a socket has no room for is copied. */
  inFlightBytesMax: 16 * 1024 * 1024,
  /** As-of frames of a resync among them: a live write waits behind 4 MiB at most, 32 ms at 1 Gbit/s. */
  asOfInFlightBytesMax: 4 * 1024 * 1024,
  /** Small frames are bounded by number: 4,096 of 4 KiB make the same 16 MiB. */
  inFlightFramesMax: 4096,
  /** Timelines in a hello; each start of a primary adds one. Older ones are left out, see `alignLineages`. */
  lineageEntriesMax: 1024,
  /** Peers of one group. */
  peersMax: 16,
  /**
   * Seqs, sizes and counts: a log that begins where a peer says has as many seqs again before numbers end to be exact (2^53). A
   * million records a second reach this in 142 years.
   */
  numberMax: 2 ** 52,
  /** Names of arrays, appliances, groups. */
  nameBytesMax: 255,
  /** A reason in words. */
  textBytesMax: 1000,
  /** Accepted connections that have not said hello: 64 times 64 KiB of buffered header are 4 MiB. */
  strangersMax: 64,
  /** Connection attempts of one dialler that have neither failed nor succeeded. */
  attemptsMax: 4,
  /** Volumes in one group's table, as the log has it. */
  volumesMax: 256,
} as const;

export const resyncLimits = {
  /** One chunk frame: four chunks of 64 KiB. */
  chunkFrameBytes: 256 * 1024,
  /** Home reads under way: 8 x 256 KiB = 2 MiB of buffers. */
  readsMax: 8,
  /** Extents asked for at once. */
  extentsMax: 256,
  /** The range of one question for extents: 1 GiB in blocks of 4 KiB. */
  extentWindowBlocks: 262144,
  /** The golden side makes its progress durable at least so often; what came since is sent again after a crash. */
  progressBytes: 64 * 1024 * 1024,
  progressMs: 2000,
  /** A resync whose digests did not match is repeated so often before an operator is needed. */
  attemptsMax: 3,
} as const;

export const verifyLimits = {
  mibBytes: 1024 * 1024,
  digestBytes: 32,
  /** One question: 16 MiB, 16 digests, 10 ms of hashing. */
  mibsPerAsk: 16,
  /** Questions under way. */
  asksMax: 2,
} as const;

/** What a board profile or an operator may change. */
export interface ReplicationSettings {
  /** A frame goes out at least so often. */
  readonly heartbeatMs: number;
  /** A link without a byte for so long is lost; takeover listens so long. */
  readonly peerTimeoutMs: number;
  /** A sync peer that has not acknowledged for so long is suspended; hosts wait until then. */
  readonly syncTimeoutMs: number;
  /** Waits between connection attempts: doubled from min to max, plus or minus a quarter. */
  readonly dialWaitMsMin: number;
  readonly dialWaitMsMax: number;
  /** How long one address may take to answer before the next one is tried beside it. */
  readonly dialStaggerMs: number;
  /** Applied positions are told at most so often. */
  readonly appliedAckMs: number;
  /** An orderly stop waits so long for the peers to have everything. */
  readonly closeWaitMs: number;
  readonly inFlightBytesMax: number;
  /** null: as fast as the link takes it. */
  readonly resyncBytesPerSecond: number | null;
}

export const defaultSettings: ReplicationSettings = {
  heartbeatMs: 100,
  peerTimeoutMs: 1000,
  syncTimeoutMs: 1000,
  dialWaitMsMin: 50,
  dialWaitMsMax: 1000,
  dialStaggerMs: 250,
  appliedAckMs: 10,
  closeWaitMs: 2000,
  inFlightBytesMax: linkLimits.inFlightBytesMax,
  resyncBytesPerSecond: null,
};

export function checkSettings(settings: ReplicationSettings): void {
  assert(settings.heartbeatMs >= 1, "heartbeats have an interval");
  assert(settings.peerTimeoutMs >= 3 * settings.heartbeatMs, "a link outlives two lost heartbeats");
  assert(settings.inFlightBytesMax >= linkLimits.payloadBytesMax, "one frame always fits in flight");
  assert(settings.inFlightBytesMax <= linkLimits.inFlightBytesMax, "the receiver has room for all in flight");
  assert(settings.dialWaitMsMin > 0 && settings.dialWaitMsMax >= settings.dialWaitMsMin, "dialling waits");
}

assert(linkLimits.runBytesMax < linkLimits.payloadBytesMax, "a run fits into a frame");
assert(resyncLimits.chunkFrameBytes + 65536 < linkLimits.payloadBytesMax, "a chunk record fits into a frame");
assert(linkLimits.lineageEntriesMax * 32 + 16384 < linkLimits.headerBytesMax, "a hello fits into a header");
assert(verifyLimits.mibsPerAsk * verifyLimits.digestBytes < linkLimits.payloadBytesMax, "digests fit into a frame");
