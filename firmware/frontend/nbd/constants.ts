/**
 * The NBD protocol's numbers, by their names in the specification
 * (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md, "Values").
 */

/** 64-bit magics in two halves: `NBDMAGIC`, `IHAVEOPT`, and that of option replies. */
export const Magic = {
  initHigh: 0x4e42444d,
  initLow: 0x41474943,
  optionHigh: 0x49484156,
  optionLow: 0x454f5054,
  optionReplyHigh: 0x0003e889,
  optionReplyLow: 0x045565a9,
  request: 0x25609513,
  simpleReply: 0x67446698,
  structuredReply: 0x668e33ef,
  extendedRequest: 0x21e41c71,
  extendedReply: 0x6e8a278c,
} as const;

export const HandshakeFlag = { fixedNewstyle: 1, noZeroes: 2 } as const;

export const Option = {
  exportName: 1,
  abort: 2,
  list: 3,
  starttls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
  extendedHeaders: 11,
} as const;

export const Rep = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errUnsup: 0x80000001,
  errPolicy: 0x80000002,
  errInvalid: 0x80000003,
  errTlsReqd: 0x80000005,
  errUnknown: 0x80000006,
  errShutdown: 0x80000007,
  errTooBig: 0x80000009,
  errExtHeaderReqd: 0x8000000a,
} as const;

export const Info = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

export const TransmissionFlag = {
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  sendFlush: 1 << 2,
  sendFua: 1 << 3,
  sendTrim: 1 << 5,
  sendWriteZeroes: 1 << 6,
  sendDf: 1 << 7,
  canMultiConn: 1 << 8,
  sendCache: 1 << 10,
  sendFastZero: 1 << 11,
  blockStatusPayload: 1 << 12,
} as const;

export const Cmd = {
  read: 0,
  write: 1,
  disc: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

export const CmdFlag = { fua: 1, noHole: 2, df: 4, reqOne: 8, fastZero: 16, payloadLen: 32 } as const;

export const ReplyFlag = { done: 1 } as const;

export const ReplyType = { none: 0, offsetData: 1, blockStatus: 5, blockStatusExt: 6, error: 32769 } as const;

/** Bits of a `base:allocation` descriptor. */
export const State = { hole: 1, zero: 2 } as const;

export const Errno = {
  none: 0,
  perm: 1,
  io: 5,
  inval: 22,
  nospc: 28,
  overflow: 75,
  notsup: 95,
  shutdown: 108,
} as const;

export type Errno = (typeof Errno)[keyof typeof Errno];

/**
 * What headers a session has agreed on: requests of 28 bytes with simple replies, the same with structured replies, or extended
 * headers of 32 bytes in both directions.
 */
export type HeaderForm = "simple" | "structured" | "extended";

export const requestHeaderBytes = 28;
export const extendedRequestHeaderBytes = 32;
export const simpleReplyBytes = 16;
export const structuredHeaderBytes = 20;
export const extendedReplyHeaderBytes = 32;
/** The offset in front of an OFFSET_DATA chunk's data. */
export const dataOffsetBytes = 8;
/** The payload of a BLOCK_STATUS that names one metadata context: 64-bit length, 32-bit id. */
export const statusFilterBytes = 12;
export const optionHeaderBytes = 16;
export const optionReplyHeaderBytes = 20;

/** The only metadata context, and the id that it has on every session. */
export const baseAllocation = "base:allocation";
export const baseAllocationId = 1;
