/** What an appliance shows of its pair. */
import type { WriteCache } from "../../hal/api/write_cache.ts";
import type { PairConfig } from "../manage/board_profile.ts";
import type { ApplianceJson, PairStatusJson, WarningJson } from "../manage/status_json.ts";
import type { DiskReport } from "../store/store.ts";
import { missedDisks } from "./empty_slots.ts";
import type { PairHello, PairRole, PairState } from "./frame.ts";
import type { NicState } from "./interconnect.ts";
import type { HalfNumber } from "./limits.ts";
import type { MirroredCache } from "./mirrored_cache.ts";
import type { PartnerFence } from "./partner_fence.ts";
import type { PartnerWatch } from "./partner_watch.ts";
import type { ShelfHeart } from "./shelf_heart.ts";

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
  readonly watch: Pick<PartnerWatch, "portIsWrong" | "doubt">;
  readonly heart: Pick<ShelfHeart, "movedMs" | "silentMs" | "partnerOwns" | "partnerLimitMs" | "failing">;
  /** `preferred`: for this half. */
  readonly pair: Pick<PairConfig, "preferred" | "limitMs">;
  readonly fence: Pick<PartnerFence, "isHarmless">;
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
    writesBackAlone: isBackAlone(facts),
    warnings: pairWarnings(facts, null),
  };
}

const statesOfCopy = { none: "degraded", unfinished: "copying", whole: "mirrored" } as const;

function stateOf(facts: PairFacts): PairStatusJson["state"] {
  const { role, theirs, mirror, met, everMet } = facts;
  if (role === "owner") {
    if (mirror.state === "mirrored") return "mirrored";
    return mirror.state === "alone" ? "degraded" : "copying";
  }
  if (role === "standby" && theirs?.role === "owner") return statesOfCopy[theirs.copy];
  // One that falls silent everywhere is about to be proven dead, or cannot be: that is no cut.
  const isElsewhere = isHeard(facts) && (everMet || facts.heart.partnerOwns);
  return role === "free" && !met && isElsewhere ? "isolated" : "starting";
}

/** The partner lives, as its page on the shelf says, and no proof of its death says otherwise. */
function isHeard({ heart, pair, fence, watch }: PairFacts): boolean {
  if (fence.isHarmless() && !watch.portIsWrong) return false;
  return heart.movedMs !== null && heart.silentMs !== null && heart.silentMs < pair.limitMs;
}

function isBackAlone(facts: PairFacts): boolean {
  return facts.role === "owner" && facts.mirror.state === "alone" && facts.mirror.isTrusted;
}

export function partnerJson(facts: PairFacts): ApplianceJson {
  const { partner, theirs, met, partnerCacheBytes } = facts;
  const isServing = theirs?.role === "standby" || theirs?.role === "owner";
  return {
    name: partner,
    state: met ? (isServing ? "up" : "starting") : isHeard(facts) ? "up" : "down",
    battery: theirs === null ? "unknown" : theirs.batteryGood ? "good" : "failed",
    cacheDirtyBytes: 0,
    cacheBytes: partnerCacheBytes,
  };
}

/** `serviceTrouble`: why hosts do not reach the array at an address that moves. */
export function pairWarnings(facts: PairFacts, serviceTrouble: string | null): WarningJson[] {
  const { appliance, partner, met, copyRefused, copyTrouble, nics, role, watch, heart } = facts;
  const warnings: WarningJson[] = [];
  const warn = (code: string, text: string): void => void warnings.push({ code, text });
  if (role === "owner" && stateOf(facts) === "degraded") {
    if (isBackAlone(facts)) {
      const text = `what hosts write is acknowledged from ${appliance}'s write cache alone, and lost with it (unmirrored = "write-back")`;
      warn("pair-writes-back-alone", text);
    }
    const unfinished = "what only the owner's cache holds goes to the shelf first";
    const untold =
      copyTrouble &&
      `the shelf does not take what it has to know of that (${copyTrouble}); when the disk works again, restart ${appliance}`;
    const apart = isHeard(facts)
      ? "it lives, and does not answer on the interconnect; look at the cables"
      : "it does not answer; start it, or look at the interconnect's cables";
    const why = met ? copyRefused || untold || unfinished : apart;
    warn("pair-degraded", `${partner} has no copy of the write cache: ${why}`);
  }
  const lack = (who: string, places: readonly string[]) =>
    `${who} does not reach ${places.join(", ")}, and could not take the array over; give it its disks, and restart it`;
  const missed = missedDisks(facts.disks, facts.theirs?.emptySlots ?? []);
  if (missed.length > 0) warn("pair-disks-missing", lack(partner, missed));
  if (role !== "owner" && heart.failing.length > 0) warn("pair-disks-missing", lack(appliance, heart.failing));
  if (watch.portIsWrong) {
    const text = `the power port of ${appliance} is not that of ${partner}: nothing will be taken over; correct [power] target_lock in the profile`;
    warn("power-port-wrong", text);
  }
  if (!met && watch.doubt !== null) warn("partner-not-fenced", watch.doubt);
  for (const text of unlikeProfiles(facts)) warn("pair-profiles-differ", text);
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

/** What both profiles should say alike, or opposite, and do not. */
function unlikeProfiles({ appliance, partner, theirs, heart, pair }: PairFacts): string[] {
  const texts: string[] = [];
  if (theirs !== null && theirs.preferred === pair.preferred)
    texts.push("both profiles say the same of [pair] preferred; write true in one of them, and false in the other");
  const limitMs = heart.partnerLimitMs;
  if (limitMs !== 0 && limitMs !== pair.limitMs) {
    const [first, last] = [`${appliance} after ${pair.limitMs} ms`, `${partner} after ${limitMs} ms`].sort();
    texts.push(
      `a silent partner is lost for ${first}, and for ${last}; write the same heartbeat_ms and missed_max in both profiles`,
    );
  }
  return texts;
}

/** Why the partner's cache cannot hold a copy of this one; a sentence, empty when it can. */
export function unlikeCaches(theirs: Pick<PairHello, "cacheBytes" | "domain">, own: WriteCache): string {
  const { cacheBytes, domain } = theirs;
  if (cacheBytes === own.sizeBytes && domain === own.domain) return "";
  return `its write cache has ${cacheBytes} bytes of domain ${domain}, and this one ${own.sizeBytes} of ${own.domain}; give both the same [cache]`;
}
