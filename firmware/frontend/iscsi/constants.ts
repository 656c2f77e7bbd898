/** Wire constants of iSCSI (RFC 7143 11). */

export const headerBytes = 48;
/** TotalAHSLength is one byte, in words of four (11.2.1.5). */
export const ahsBytesMax = 255 * 4;
export const digestBytes = 4;
/** The reserved value of ITT and TTT (11.2.1.8). */
export const noTag = 0xffffffff;
/** What both sides may send during login, and until MaxRecvDataSegmentLength is declared (6.1, 13.12). */
export const loginSegmentBytes = 8192;
/** DataSegmentLength has 24 bits. */
export const segmentBytesMax = 16777215;

export const RequestOp = {
  nopOut: 0x00,
  scsiCommand: 0x01,
  taskManagement: 0x02,
  login: 0x03,
  text: 0x04,
  dataOut: 0x05,
  logout: 0x06,
  snack: 0x10,
} as const;

export const ResponseOp = {
  nopIn: 0x20,
  scsiResponse: 0x21,
  taskManagement: 0x22,
  login: 0x23,
  text: 0x24,
  dataIn: 0x25,
  logout: 0x26,
  r2t: 0x31,
  async: 0x32,
  reject: 0x3f,
} as const;

/** Bit 6 of the first byte: immediate delivery (11.2.1.1). */
export const immediateBit = 0x40;
/** Bit 7 of the second byte: final; transit of a login (11.2.1.3). */
export const finalBit = 0x80;
/** Text and login: more of this text follows (11.10.2). */
export const continueBit = 0x40;

/** SCSI Command (11.3.1). */
export const CommandFlag = { read: 0x40, write: 0x20, attribute: 0x07 } as const;

/** Data-In (11.7.1); overflow and underflow have the same places in SCSI Response (11.4.1). */
export const DataInFlag = { acknowledge: 0x40, overflow: 0x04, underflow: 0x02, status: 0x01 } as const;
export const ResidualFlag = { overflow: 0x04, underflow: 0x02 } as const;

/** 11.5.1. */
export const ManagementFunction = {
  abortTask: 1,
  abortTaskSet: 2,
  clearAca: 3,
  clearTaskSet: 4,
  logicalUnitReset: 5,
  targetWarmReset: 6,
  targetColdReset: 7,
  taskReassign: 8,
} as const;

/** 11.6.1. */
export const ManagementResponse = {
  complete: 0,
  taskDoesNotExist: 1,
  lunDoesNotExist: 2,
  reassignmentNotSupported: 4,
  notSupported: 5,
  rejected: 255,
} as const;

/** 11.17.1. */
export const RejectReason = {
  dataDigest: 0x02,
  snack: 0x03,
  protocolError: 0x04,
  commandNotSupported: 0x05,
  immediateCommand: 0x06,
  taskInProgress: 0x07,
  invalidField: 0x09,
  longOperation: 0x0a,
} as const;

/** 11.9.1. */
export const AsyncEvent = { scsi: 0, logoutRequested: 1, connectionDropped: 2, sessionDropped: 3 } as const;

/** 11.14.1. */
export const LogoutReason = { closeSession: 0, closeConnection: 1, removeForRecovery: 2 } as const;
/** 11.15.1. */
export const LogoutResponse = { closed: 0, cidNotFound: 1, recoveryNotSupported: 2, failed: 3 } as const;

/** 11.12.3. */
export const Stage = { security: 0, operational: 1, fullFeature: 3 } as const;

/** Status-Class and Status-Detail in one number (11.13.5). */
export const LoginStatus = {
  success: 0x0000,
  initiatorError: 0x0200,
  authenticationFailed: 0x0201,
  forbidden: 0x0202,
  notFound: 0x0203,
  versionNotSupported: 0x0205,
  tooManyConnections: 0x0206,
  missingParameter: 0x0207,
  sessionTypeNotSupported: 0x0209,
  sessionDoesNotExist: 0x020a,
  invalidDuringLogin: 0x020b,
  targetError: 0x0300,
  serviceUnavailable: 0x0301,
  outOfResources: 0x0302,
} as const;
export type LoginStatus = (typeof LoginStatus)[keyof typeof LoginStatus];
