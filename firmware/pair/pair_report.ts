/** What an appliance shows of its pair. */
import type { WriteCache } from "../../hal/api/write_cache.ts";
import type { ApplianceJson, PairStatusJson, WarningJson } from "../manage/status_json.ts";
import type { DiskReport } from "../store/store.ts";
import { missedDisks } from "./empty_slots.ts";
import type { PairHello, PairRole, PairState } from "./frame.ts";
import type { NicState } from "./interconnect.ts";
import type { HalfNumber } from "./limits.ts";
import type { MirroredCache } from "./mirrored_cache.ts";

export interface PairFacts {
  readonly appliance: string;
  readonly partner: string;
  readonly half: HalfNumber;
  readonly preferredOwner: string;
  readonly role: PairRole;
  /** As the partner has said; null: it has not, in this session. */
  readonly theirs: PairState | null;
  readonly met: boolean;
  readonly everMet: boolean;
  readonly partnerCacheBytes: number;
  readonly nics: readonly NicState[];
  readonly mirror: MirroredCache;
  /** Why the partner's cache cannot hold a copy; empty: nothing against it is known. */
  readonly copyRefused: string;
  /** See `CopyKeeper.trouble`. */
  readonly copyTrouble: string | null;
  /** Of the pool as it is open here; none where it is not. */
  readonly disks: readonly DiskReport[];
  /** It calls a partner dead that answers. */
  readonly powerPortIsWrong: boolean;
}

export function pairStatus(facts: PairFacts): PairStatusJson {
  const { appliance, partner, half, preferredOwner, role, mirror, nics } = facts;
  const owner = role === "owner" || role === "starting" ? appliance : role === "standby" ? partner : null;
  const state = stateOf(facts);
  return {
    state,
    partner,
    appliance,
    role,
    owner,
    halves: [{ half: half + 1, owner, preferredOwner, state }],
    copiedBytes: mirror.state === "mirrored" ? mirror.sizeBytes : mirror.progress.doneBytes,
    cacheBytes: mirror.sizeBytes,
    nics: nics.map(({ name, up }) => ({ name, up })),
  };
}

const statesOfCopy = { none: "degraded", unfinished: "copying", whole: "mirrored" } as const;

function stateOf({ role, theirs, mirror, met, everMet }: PairFacts): PairStatusJson["state"] {
  if (role === "owner") {
    if (mirror.state === "mirrored") return "mirrored";
    return mirror.state === "alone" ? "degraded" : "copying";
  }
  if (role === "standby" && theirs?.role === "owner") return statesOfCopy[theirs.copy];
  return role === "free" && !met && everMet ? "isolated" : "starting";
}

export function partnerJson({ partner, theirs, met, partnerCacheBytes }: PairFacts): ApplianceJson {
  return {
    name: partner,
    state: !met ? "down" : theirs?.role === "standby" || theirs?.role === "owner" ? "up" : "starting",
    battery: theirs === null ? "unknown" : theirs.batteryGood ? "good" : "failed",
    cacheDirtyBytes: 0,
    cacheBytes: partnerCacheBytes,
  };
}

/** `serviceTrouble`: why hosts do not reach the array at an address that moves. */
export function pairWarnings(facts: PairFacts, serviceTrouble: string | null): WarningJson[] {
  const { appliance, partner, met, copyRefused, copyTrouble, nics, mirror } = facts;
  const warnings: WarningJson[] = [];
  if (stateOf(facts) === "degraded") {
    if (mirror.isTrusted) {
      const text = `what hosts write is acknowledged from ${appliance}'s write cache alone, and lost with it (unmirrored = "write-back")`;
      warnings.push({ code: "pair-writes-back-alone", text });
    }
    const unfinished = "what only the owner's cache holds goes to the shelf first";
    const untold =
      copyTrouble &&
      `the shelf does not take what it has to know of that (${copyTrouble}); when the disk works again, restart ${appliance}`;
    const why = met
      ? copyRefused || untold || unfinished
      : "it does not answer; start it, or look at the interconnect's cables";
    warnings.push({ code: "pair-degraded", text: `${partner} has no copy of the write cache: ${why}` });
  }
  const missed = missedDisks(facts.disks, facts.theirs?.emptySlots ?? []);
  if (missed.length > 0) {
    const text = `${partner} does not reach ${missed.join(", ")}, and could not take the array over; give it its disks, and restart it`;
    warnings.push({ code: "pair-disks-missing", text });
  }
  if (facts.powerPortIsWrong) {
    const text = `the power port is not that of ${partner}: nothing will be taken over; correct [power] target_lock in the profile`;
    warnings.push({ code: "power-port-wrong", text });
  }
  if (serviceTrouble !== null) warnings.push({ code: "service-address", text: serviceTrouble });
  for (const { name, up, beatTrouble } of nics) {
    if (met && !up)
      warnings.push({ code: "interconnect-nic-down", text: `${name} does not reach ${partner}; look at its cable` });
    else if (met && beatTrouble !== null) {
      const text = `heartbeats of ${partner} are not heard over ${name} (${beatTrouble}): a pause of its main loop may be taken for its death; let UDP through at the same port`;
      warnings.push({ code: "heartbeats-not-heard", text });
    }
  }
  return warnings;
}

/** Why the partner's cache cannot hold a copy of this one; a sentence, empty when it can. */
export function unlikeCaches(theirs: Pick<PairHello, "cacheBytes" | "domain">, own: WriteCache): string {
  const { cacheBytes, domain } = theirs;
  if (cacheBytes === own.sizeBytes && domain === own.domain) return "";
  return `its write cache has ${cacheBytes} bytes of domain ${domain}, and this one ${own.sizeBytes} of ${own.domain}; give both the same [cache]`;
}
