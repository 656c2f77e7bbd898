/**
 * The login phase of one connection, the target's side (RFC 7143 6.3, 11.12, 11.13): requests in, answers out.
 *
 *   start ─▶ security (0) ──T, proved or open──▶ operational (1) ──T──▶ full feature (3)
 *     │          └──────────T, proved or open───────────────────────────────▲
 *     └────────(security not required)──▶ operational
 *   any ──violation, refusal──▶ rejected (the connection ends)
 *
 * Invariants:
 * - Full feature is reached only after `required` said "open", or CHAP has proved the initiator.
 * - Who and what (InitiatorName, SessionType, TargetName) is said in the first request, and never again.
 * - Every key is taken once in a login; every rejection has a status and one reason.
 */
import type { Entropy } from "../../../hal/api/entropy.ts";
import type { ChapCredentials, HostAuthority, HostIdentity } from "../../volume/host_access.ts";
import { Chap } from "./chap.ts";
import { continueBit, finalBit, LoginStatus, loginSegmentBytes, Stage } from "./constants.ts";
import { KeyNegotiation } from "./key_negotiation.ts";
import type { IscsiLimits } from "./limits.ts";
import type { ChapHashes } from "./ports.ts";
import { encodeText, parseText, type TextPair } from "./text_keys.ts";

export interface LoginParts {
  readonly authority: HostAuthority;
  readonly entropy: Entropy;
  readonly hashes: ChapHashes;
  readonly limits: IscsiLimits;
  readonly targetName: string;
  readonly portalGroupTag: number;
  /** `HOST:PORT` of the other end. */
  readonly remote: string;
  readonly sessionExists: (initiatorName: string, isid: string, tsih: number) => boolean;
}

/** The fixed part of a login request that matters here. */
export interface LoginHeader {
  readonly flags: number;
  readonly versionMin: number;
  /** Twelve hex digits. */
  readonly isid: string;
  readonly tsih: number;
  readonly cid: number;
}

export type LoginStep =
  | {
      readonly kind: "reply";
      readonly transit: boolean;
      readonly stage: number;
      readonly nextStage: number;
      /** More of the answer follows when the initiator asks with an empty request. */
      readonly continues: boolean;
      readonly text: Uint8Array;
    }
  | { readonly kind: "rejected"; readonly status: LoginStatus; readonly reason: string };

type Refusal = { readonly kind: "rejected"; readonly status: LoginStatus; readonly reason: string };

const empty = new Uint8Array(0);

/** Names that RFC 7143 4.2.7 allows, as far as their form goes. */
const namePattern = /^(?:iqn\.[0-9]{4}-[0-9]{2}\.[^\s,]+|eui\.[0-9a-f]{16}|naa\.(?:[0-9a-f]{16}|[0-9a-f]{32}))$/;
const nameBytesMax = 223;

const securityKeys = new Set(["AuthMethod", "CHAP_A", "CHAP_N", "CHAP_R", "CHAP_I", "CHAP_C"]);
const declarations = new Set(["InitiatorName", "InitiatorAlias", "TargetName", "SessionType"]);

export class Login {
  initiatorName = "";
  isid = "";
  cid = 0;
  readonly negotiation: KeyNegotiation;
  private readonly parts: LoginParts;
  private stage: number = Stage.security;
  private begun = false;
  private identified = false;
  private identity: HostIdentity | null = null;
  private requests = 0;
  private requirement: "open" | ChapCredentials = "open";
  private chap: Chap | null = null;
  private segmentDeclared = false;
  private readonly seen = new Set<string>();
  private text: Uint8Array = empty;
  /** Answer that did not fit one response. */
  private outbox: Uint8Array = empty;

  constructor(parts: LoginParts) {
    this.parts = parts;
    this.negotiation = new KeyNegotiation(parts.limits);
  }

  /** One object from the judgement of the login to the end of its nexus: `HostAuthority` remembers what it asked of it. */
  get host(): HostIdentity {
    if (this.identity?.iqn !== this.initiatorName) {
      this.identity = { remote: this.parts.remote, iqn: this.initiatorName, tlsName: null };
    }
    return this.identity;
  }

  /** The MaxRecvDataSegmentLength that the initiator may rely on. */
  get receiveSegmentBytes(): number {
    return this.segmentDeclared ? this.parts.limits.receiveSegmentBytesMax : loginSegmentBytes;
  }

  request(header: LoginHeader, text: Uint8Array): LoginStep {
    const refusal = this.judge(header);
    if (refusal !== null) return refusal;
    if ((header.flags & continueBit) !== 0) {
      if (this.text.byteLength + text.byteLength > this.parts.limits.loginTextBytesMax) {
        return refuse(LoginStatus.initiatorError, "the text of the login does not end");
      }
      this.text = joined(this.text, text);
      return this.reply(header, empty, false);
    }
    const whole = this.text.byteLength === 0 ? text : joined(this.text, text);
    this.text = empty;
    if (this.outbox.byteLength > 0) {
      if (whole.byteLength > 0) return refuse(LoginStatus.initiatorError, "text while an answer is not yet taken");
      return this.reply(header, this.outbox, true);
    }
    const parsed = parseText(whole, this.parts.limits.keysMax);
    if ("error" in parsed) return refuse(LoginStatus.initiatorError, parsed.error);
    return this.negotiate(header, parsed.pairs);
  }

  private judge(header: LoginHeader): Refusal | null {
    this.requests++;
    if (this.requests > this.parts.limits.loginRequestsMax) {
      return refuse(LoginStatus.initiatorError, `more than ${this.parts.limits.loginRequestsMax} login requests`);
    }
    if (header.versionMin > 0) {
      return refuse(LoginStatus.versionNotSupported, `version ${header.versionMin} at least is asked for`);
    }
    const transit = (header.flags & finalBit) !== 0;
    const stage = (header.flags >> 2) & 3;
    const nextStage = header.flags & 3;
    if (transit && (header.flags & continueBit) !== 0) return refuse(LoginStatus.initiatorError, "T and C together");
    if (!this.begun) {
      this.begun = true;
      this.isid = header.isid;
      this.cid = header.cid;
      if (stage === Stage.security || stage === Stage.operational) this.stage = stage;
    } else if (header.isid !== this.isid || header.cid !== this.cid) {
      return refuse(LoginStatus.initiatorError, "ISID or CID changed during the login");
    }
    if (stage !== this.stage) return refuse(LoginStatus.initiatorError, `stage ${stage} while in stage ${this.stage}`);
    if (transit && (nextStage <= stage || nextStage === 2)) {
      return refuse(LoginStatus.initiatorError, `a transit from stage ${stage} to ${nextStage}`);
    }
    return null;
  }

  private negotiate(header: LoginHeader, pairs: readonly TextPair[]): LoginStep {
    for (const { key } of pairs) {
      if (this.seen.has(key)) return refuse(LoginStatus.initiatorError, `${key} came twice`);
      this.seen.add(key);
    }
    const keys = new Map(pairs.map(({ key, value }) => [key, value]));
    const answers: TextPair[] = [];
    if (!this.identified) {
      const refusal = this.identify(header, keys);
      if (refusal !== null) return refusal;
      this.identified = true;
      if (!this.negotiation.parameters.discovery) {
        answers.push({ key: "TargetPortalGroupTag", value: String(this.parts.portalGroupTag) });
      }
    } else if ([...declarations].some((key) => key !== "InitiatorAlias" && keys.has(key))) {
      return refuse(LoginStatus.initiatorError, "names and session type belong to the first request");
    }
    const security = this.secure(keys);
    if (!Array.isArray(security)) return security;
    answers.push(...security, ...this.operate(pairs));
    return this.reply(header, encodeText(answers), true);
  }

  /** Who it is, what for, and whether it may. */
  private identify(header: LoginHeader, keys: ReadonlyMap<string, string>): Refusal | null {
    const { parts } = this;
    const name = keys.get("InitiatorName")?.toLowerCase();
    if (name === undefined) return refuse(LoginStatus.missingParameter, "InitiatorName is missing");
    if (!namePattern.test(name) || new TextEncoder().encode(name).byteLength > nameBytesMax) {
      return refuse(LoginStatus.initiatorError, "InitiatorName is not an iSCSI name");
    }
    this.initiatorName = name;
    const type = keys.get("SessionType") ?? "Normal";
    if (type !== "Normal" && type !== "Discovery") {
      return refuse(LoginStatus.sessionTypeNotSupported, "an unknown SessionType");
    }
    this.negotiation.parameters.discovery = type === "Discovery";
    const target = keys.get("TargetName");
    if (type === "Normal" && target === undefined) return refuse(LoginStatus.missingParameter, "TargetName is missing");
    if (target !== undefined && target.toLowerCase() !== parts.targetName) {
      return refuse(LoginStatus.notFound, "there is no such target here");
    }
    if (header.tsih !== 0) {
      return parts.sessionExists(name, header.isid, header.tsih)
        ? refuse(LoginStatus.tooManyConnections, "a second connection for a session that may have one")
        : refuse(LoginStatus.sessionDoesNotExist, `there is no session with TSIH ${header.tsih}`);
    }
    const required = parts.authority.required(this.host);
    if (required === "unknown") return refuse(LoginStatus.forbidden, "no host is known by this name and address");
    this.requirement = required;
    if (required !== "open" && this.stage !== Stage.security) {
      return refuse(LoginStatus.authenticationFailed, "authentication is required and was skipped");
    }
    return null;
  }

  /** AuthMethod and CHAP. */
  private secure(keys: ReadonlyMap<string, string>): TextPair[] | Refusal {
    const isSecurity = [...securityKeys].some((key) => keys.has(key));
    if (this.stage !== Stage.security) {
      return isSecurity ? refuse(LoginStatus.initiatorError, "security keys outside their stage") : [];
    }
    if (!isSecurity) return [];
    const answers: TextPair[] = [];
    const methods = keys.get("AuthMethod")?.split(",");
    if (methods !== undefined) {
      const wanted = this.requirement === "open" ? "None" : "CHAP";
      if (!methods.includes(wanted)) {
        return refuse(LoginStatus.authenticationFailed, `AuthMethod ${wanted} is not among those offered`);
      }
      answers.push({ key: "AuthMethod", value: wanted });
      const { authority, entropy, hashes } = this.parts;
      if (this.requirement !== "open") {
        this.chap = new Chap({ credentials: this.requirement, own: authority.own, entropy, hashes });
      }
    }
    const algorithms = keys.get("CHAP_A");
    const responds = keys.has("CHAP_N") || keys.has("CHAP_R") || keys.has("CHAP_I") || keys.has("CHAP_C");
    if (algorithms === undefined && !responds) return answers;
    const chap = this.chap;
    if (chap === null) return refuse(LoginStatus.initiatorError, "CHAP keys without AuthMethod=CHAP");
    if (algorithms !== undefined && responds) {
      return refuse(LoginStatus.initiatorError, "a CHAP response before its challenge");
    }
    const step = algorithms !== undefined ? chap.begin(algorithms) : chap.answer(keys);
    if ("refused" in step) return refuse(LoginStatus.authenticationFailed, step.refused);
    answers.push(...step.pairs);
    return answers;
  }

  private operate(pairs: readonly TextPair[]): TextPair[] {
    const offers = pairs.filter(({ key }) => !declarations.has(key) && !securityKeys.has(key));
    const answers = this.negotiation.answer(offers);
    if (this.stage === Stage.operational && !this.segmentDeclared) {
      this.segmentDeclared = true;
      answers.push({ key: "MaxRecvDataSegmentLength", value: String(this.parts.limits.receiveSegmentBytesMax) });
    }
    return answers;
  }

  /** `ready`: the request is complete, so that its wish for the next stage counts. */
  private reply(header: LoginHeader, text: Uint8Array, ready: boolean): LoginStep {
    const stage = this.stage;
    const fits = text.subarray(0, loginSegmentBytes);
    this.outbox = text.subarray(fits.byteLength);
    const continues = this.outbox.byteLength > 0;
    const wishes = ready && !continues && (header.flags & finalBit) !== 0;
    let transit = false;
    if (wishes) {
      const proved = this.requirement === "open" || this.chap?.proved === true;
      if (proved) transit = true;
      else if (this.chap === null) {
        return refuse(LoginStatus.authenticationFailed, "authentication is required and was skipped");
      }
    }
    const nextStage = transit ? header.flags & 3 : 0;
    if (transit) this.stage = nextStage;
    return { kind: "reply", transit, stage, nextStage, continues, text: fits };
  }
}

function refuse(status: LoginStatus, reason: string): Refusal {
  return { kind: "rejected", status, reason };
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const whole = new Uint8Array(first.byteLength + second.byteLength);
  whole.set(first);
  whole.set(second, first.byteLength);
  return whole;
}
