/**
 * The operational keys of a session (RFC 7143 13): what the initiator offers, what is answered, what holds in the end.
 *
 * Invariants:
 * - A key is negotiated once in a login (6.3): a second time is an error of the initiator.
 * - A key that was not offered has its default.
 * - Every offer is answered: with a value, `Irrelevant`, `Reject` (a value outside the key's range) or `NotUnderstood`.
 */
import { loginSegmentBytes, segmentBytesMax } from "./constants.ts";
import type { IscsiLimits } from "./limits.ts";
import { parseNumber, type TextPair } from "./text_keys.ts";

/** Defaults are those of section 13. */
export interface SessionParameters {
  discovery: boolean;
  headerDigest: boolean;
  dataDigest: boolean;
  /** What the initiator takes in one PDU. */
  initiatorSegmentBytes: number;
  initialR2t: boolean;
  immediateData: boolean;
  maxBurstBytes: number;
  firstBurstBytes: number;
  maxOutstandingR2t: number;
  time2WaitSeconds: number;
  time2RetainSeconds: number;
}

export function defaultParameters(): SessionParameters {
  return {
    discovery: false,
    headerDigest: false,
    dataDigest: false,
    initiatorSegmentBytes: loginSegmentBytes,
    initialR2t: true,
    immediateData: true,
    maxBurstBytes: 262144,
    firstBurstBytes: 65536,
    maxOutstandingR2t: 1,
    time2WaitSeconds: 2,
    time2RetainSeconds: 20,
  };
}

/** Keys without meaning in a discovery session (13, "Irrelevant when: SessionType=Discovery"). */
const normalSessionOnly = new Set([
  "MaxConnections",
  "InitialR2T",
  "ImmediateData",
  "MaxBurstLength",
  "FirstBurstLength",
  "MaxOutstandingR2T",
  "DataPDUInOrder",
  "DataSequenceInOrder",
  "TaskReporting",
]);

/** Markers are gone; these keys are still to be known (13.25). */
const obsolete = new Set(["IFMarker", "OFMarker", "IFMarkInt", "OFMarkInt"]);

/** Known, but not for the initiator to offer. */
const targetOnly = new Set(["TargetAlias", "TargetAddress", "TargetPortalGroupTag"]);

const reject = "Reject";
const irrelevant = "Irrelevant";
const notUnderstood = "NotUnderstood";

export class KeyNegotiation {
  readonly parameters = defaultParameters();
  private readonly limits: IscsiLimits;

  constructor(limits: IscsiLimits) {
    this.limits = limits;
  }

  /** The answers to the offers, in their order. Security keys and names are not among them. */
  answer(offers: readonly TextPair[]): TextPair[] {
    const answers = new Map<string, string | null>();
    // FirstBurstLength depends on these, wherever they stand.
    const first = ["InitialR2T", "ImmediateData", "MaxBurstLength"];
    for (const { key, value } of offers) if (first.includes(key)) answers.set(key, this.answerOne(key, value));
    const pairs: TextPair[] = [];
    for (const { key, value } of offers) {
      const answer = answers.has(key) ? answers.get(key)! : this.answerOne(key, value);
      if (answer !== null) pairs.push({ key, value: answer });
    }
    return pairs;
  }

  /** Null: a declaration, which is not answered. */
  private answerOne(key: string, value: string): string | null {
    const { limits, parameters } = this;
    if (parameters.discovery && normalSessionOnly.has(key)) return irrelevant;
    switch (key) {
      case "HeaderDigest":
        return this.digest(value, (chosen) => {
          parameters.headerDigest = chosen;
        });
      case "DataDigest":
        return this.digest(value, (chosen) => {
          parameters.dataDigest = chosen;
        });
      case "MaxConnections":
        return lowest(value, { from: 1, to: 65535, ours: 1 }).text;
      case "InitialR2T":
        return this.either(value, (yes) => {
          parameters.initialR2t = yes;
        });
      case "ImmediateData":
        if (value !== "Yes" && value !== "No") return reject;
        parameters.immediateData = value === "Yes";
        return value;
      case "DataPDUInOrder":
      case "DataSequenceInOrder":
        // The function is OR, and ours is Yes: data is taken and sent in order.
        return value === "Yes" || value === "No" ? "Yes" : reject;
      case "MaxRecvDataSegmentLength": {
        const bytes = parseNumber(value);
        if (bytes === null || bytes < 512 || bytes > segmentBytesMax) return reject;
        parameters.initiatorSegmentBytes = bytes;
        return null;
      }
      case "MaxBurstLength": {
        const burst = lowest(value, { from: 512, to: segmentBytesMax, ours: limits.burstBytesMax });
        if (burst.number !== null) parameters.maxBurstBytes = burst.number;
        return burst.text;
      }
      case "FirstBurstLength":
        return this.firstBurst(value);
      case "MaxOutstandingR2T": {
        const count = lowest(value, { from: 1, to: 65535, ours: limits.outstandingR2tMax });
        if (count.number !== null) parameters.maxOutstandingR2t = count.number;
        return count.text;
      }
      case "DefaultTime2Wait": {
        const offered = parseNumber(value);
        if (offered === null || offered > 3600) return reject;
        // The function is the maximum; a session that was lost may be opened again at once.
        parameters.time2WaitSeconds = offered;
        return String(offered);
      }
      case "DefaultTime2Retain": {
        // At ErrorRecoveryLevel 0 nothing is kept of a session that was lost.
        const seconds = lowest(value, { from: 0, to: 3600, ours: 0 });
        if (seconds.number !== null) parameters.time2RetainSeconds = seconds.number;
        return seconds.text;
      }
      case "ErrorRecoveryLevel":
        return lowest(value, { from: 0, to: 2, ours: 0 }).text;
      case "iSCSIProtocolLevel":
        // RFC 7144: 1 is RFC 7143.
        return lowest(value, { from: 0, to: 31, ours: 1 }).text;
      case "TaskReporting":
        // One connection in a session, responses in order: the response fence holds by itself (13.23).
        return value.split(",").find((item) => item === "ResponseFence" || item === "RFC3720") ?? reject;
      default:
        if (obsolete.has(key) || targetOnly.has(key) || key === "SendTargets") return reject;
        return notUnderstood;
    }
  }

  private digest(value: string, choose: (chosen: boolean) => void): string {
    const chosen = value.split(",").find((item) => item === "None" || item === "CRC32C");
    if (chosen === undefined) return reject;
    choose(chosen === "CRC32C");
    return chosen;
  }

  private either(value: string, choose: (yes: boolean) => void): string {
    if (value !== "Yes" && value !== "No") return reject;
    choose(value === "Yes");
    return value;
  }

  private firstBurst(value: string): string {
    const { limits, parameters } = this;
    if (parameters.initialR2t && !parameters.immediateData) return irrelevant;
    const ours = Math.min(limits.firstBurstBytesMax, parameters.maxBurstBytes);
    const burst = lowest(value, { from: 512, to: segmentBytesMax, ours });
    if (burst.number !== null) parameters.firstBurstBytes = burst.number;
    return burst.text;
  }
}

/** A number whose result is the lower of both sides'. */
function lowest(
  value: string,
  range: { from: number; to: number; ours: number },
): { number: number | null; text: string } {
  const offered = parseNumber(value);
  if (offered === null || offered < range.from || offered > range.to) return { number: null, text: reject };
  const number = Math.min(offered, range.ours);
  return { number, text: String(number) };
}
