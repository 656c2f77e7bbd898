/**
 * Sense data (SPC-5 4.4): why a command did not end with GOOD, in fixed or descriptor format.
 */

/** SPC-5 4.4.8, table 49. */
export const SenseKey = {
  noSense: 0x0,
  recoveredError: 0x1,
  notReady: 0x2,
  mediumError: 0x3,
  hardwareError: 0x4,
  illegalRequest: 0x5,
  unitAttention: 0x6,
  dataProtect: 0x7,
  copyAborted: 0xa,
  abortedCommand: 0xb,
  miscompare: 0xe,
} as const;
export type SenseKey = (typeof SenseKey)[keyof typeof SenseKey];

/** Additional sense code and qualifier, ASC << 8 | ASCQ (SPC-5 annex F.2). */
export const Asc = {
  none: 0x0000,
  operationInProgress: 0x0016,
  sanitizeInProgress: 0x041b,
  sanitizeFailed: 0x3103,
  softwareWriteProtected: 0x2702,
  becomingReady: 0x0401,
  notReadyCause: 0x0400,
  initializingRequired: 0x0402,
  asymmetricAccessStateTransition: 0x040a,
  targetPortInStandbyState: 0x040b,
  targetPortInUnavailableState: 0x040c,
  logicalUnitCommunicationFailure: 0x0800,
  writeError: 0x0c00,
  thirdPartyDeviceFailure: 0x0d01,
  copyTargetUnreachable: 0x0d02,
  unrecoveredReadError: 0x1100,
  parameterListLengthError: 0x1a00,
  miscompareDuringVerify: 0x1d00,
  invalidOpcode: 0x2000,
  lbaOutOfRange: 0x2100,
  invalidFieldInCdb: 0x2400,
  logicalUnitNotSupported: 0x2500,
  invalidFieldInParameterList: 0x2600,
  parameterValueInvalid: 0x2602,
  invalidReleaseOfReservation: 0x2604,
  tooManyTargetDescriptors: 0x2606,
  unsupportedTargetDescriptorType: 0x2607,
  tooManySegmentDescriptors: 0x2608,
  unsupportedSegmentDescriptorType: 0x2609,
  inlineDataLengthExceeded: 0x260b,
  invalidOperationForCopySourceOrDestination: 0x260c,
  writeProtected: 0x2700,
  spaceAllocationFailedWriteProtect: 0x2707,
  notReadyToReadyChange: 0x2800,
  powerOnOrReset: 0x2900,
  logicalUnitReset: 0x2903,
  nexusLoss: 0x2907,
  modeParametersChanged: 0x2a01,
  reservationsPreempted: 0x2a03,
  reservationsReleased: 0x2a04,
  registrationsPreempted: 0x2a05,
  asymmetricAccessStateChanged: 0x2a06,
  capacityDataHasChanged: 0x2a09,
  commandSequenceError: 0x2c00,
  commandsClearedByAnotherInitiator: 0x2f00,
  savingParametersNotSupported: 0x3900,
  inquiryDataHasChanged: 0x3f03,
  reportedLunsDataHasChanged: 0x3f0e,
  internalTargetFailure: 0x4400,
  overlappedCommands: 0x4e00,
  mediumRemovalPrevented: 0x5302,
  insufficientResources: 0x5503,
  insufficientRegistrationResources: 0x5504,
} as const;
export type Asc = (typeof Asc)[keyof typeof Asc];

export interface SenseDetails {
  /** The INFORMATION field: an LBA, or the offset of a miscompare; null: not valid. */
  readonly information?: number;
  /** Sense key specific: where the bad field lies (SPC-5 4.4.2.4.2). */
  readonly field?: { readonly inCdb: boolean; readonly byte: number; readonly bit?: number };
  /** Sense key specific: how far an operation has come, 0 to 65535 of 65536 (SPC-5 4.4.2.4.4). */
  readonly progress?: number;
}

const currentFixed = 0x70;
const currentDescriptor = 0x72;
const sksValid = 0x80;

/** `descriptorFormat`: what the control mode page's D_SENSE bit asks for. */
export function encodeSense(
  descriptorFormat: boolean,
  key: SenseKey,
  asc: number,
  details: SenseDetails = {},
): Uint8Array {
  return descriptorFormat ? descriptorSense(key, asc, details) : fixedSense(key, asc, details);
}

/** SPC-5 4.4.3. */
function fixedSense(key: SenseKey, asc: number, details: SenseDetails): Uint8Array {
  const sense = new Uint8Array(18);
  const view = new DataView(sense.buffer);
  sense[0] = currentFixed;
  sense[2] = key;
  sense[7] = sense.byteLength - 8;
  sense[12] = asc >> 8;
  sense[13] = asc & 0xff;
  const { information } = details;
  // A value that does not fit four bytes makes the field invalid (4.4.3.2).
  if (information !== undefined && information <= 0xffffffff) {
    sense[0] |= 0x80;
    view.setUint32(3, information);
  }
  writeSpecific(sense, 15, details);
  return sense;
}

/** SPC-5 4.4.2. */
function descriptorSense(key: SenseKey, asc: number, details: SenseDetails): Uint8Array {
  const hasSpecific = details.field !== undefined || details.progress !== undefined;
  const bytes = 8 + (details.information === undefined ? 0 : 12) + (hasSpecific ? 8 : 0);
  const sense = new Uint8Array(bytes);
  const view = new DataView(sense.buffer);
  sense[0] = currentDescriptor;
  sense[1] = key;
  sense[2] = asc >> 8;
  sense[3] = asc & 0xff;
  sense[7] = bytes - 8;
  let at = 8;
  if (details.information !== undefined) {
    // Information descriptor: type 00h, VALID.
    sense[at + 1] = 0x0a;
    sense[at + 2] = 0x80;
    view.setUint32(at + 4, Math.floor(details.information / 2 ** 32));
    view.setUint32(at + 8, details.information >>> 0);
    at += 12;
  }
  if (hasSpecific) {
    // Sense key specific descriptor: type 02h.
    sense[at] = 0x02;
    sense[at + 1] = 0x06;
    writeSpecific(sense, at + 4, details);
  }
  return sense;
}

function writeSpecific(sense: Uint8Array, at: number, details: SenseDetails): void {
  const { field, progress } = details;
  if (field !== undefined) {
    const bit = field.bit === undefined ? 0 : 0x08 | field.bit;
    sense[at] = sksValid | (field.inCdb ? 0x40 : 0) | bit;
    sense[at + 1] = field.byte >> 8;
    sense[at + 2] = field.byte & 0xff;
  } else if (progress !== undefined) {
    sense[at] = sksValid;
    sense[at + 1] = progress >> 8;
    sense[at + 2] = progress & 0xff;
  }
}
