/**
 * The end of a run: no fault is in force any more, and within bounded time the site must be whole. Exactly one array is writable,
 * the other one is its golden copy and in sync, pairs are mirrored, hosts can write and get answers, and whole images read on both
 * sides, over both appliances of a pair, and salvage sets, are what the history says. The two caches of a pair are equal.
 *
 * What an operator has to do after a branch (resync the loser) or after a stop that nobody can confirm (serve alone) is done here,
 * as the runbooks say; everything else must mend by itself.
 */
import type { ApiAnswer } from "../../firmware/manage/api.ts";
import type { ControlError, Result, VerifyJson } from "../../firmware/manage/control.ts";
import type { GroupJson } from "../../firmware/manage/status_json.ts";
import { failedCaches } from "./faults.ts";
import { type HostOrders, HostSession, sweepsWanted } from "./host_session.ts";
import type { Operator } from "./operator.ts";
import { groupName, type SimArray, type SimMachine } from "./sim_array.ts";
import type { Site } from "./site.ts";

/** How long things may take to mend without anybody's help. */
const patienceMs = 15_000;
const roundsMax = 6;
const sweepLimitMs = 60_000;
/** Hosts write that long once everything is whole. */
const burstMs = 150;
const rottenSweepMs = 3000;
const cacheLookMs = 20;
/** A command is refused so while the group changes its owner. */
const movingCodes: readonly string[] = ["starting", "not-connected"];

export interface HealParts {
  readonly site: Site;
  readonly operator: Operator;
  readonly sessions: readonly HostSession[];
  readonly orders: HostOrders;
}

export function healAndJudge(parts: HealParts): void {
  const { site, operator, sessions, orders } = parts;
  if (!becomesWhole(parts)) {
    if (!site.failed) sweepWhatAnswers(site, orders);
    return;
  }
  const written = site.oracle.acknowledgedWrites;
  site.world.runFor(burstMs);
  if (!site.runUntil(() => site.oracle.acknowledgedWrites > written, patienceMs)) {
    if (!site.failed)
      site.chronicle.fail("liveness", "hosts cannot write though everything is whole", [
        ...sessions.map(
          (one) => `${one.array.name} ${one.exportName}: ready ${one.isReady}, writable ${one.isWritable}`,
        ),
        ...describeSite(site),
      ]);
    return;
  }
  orders.writes = false;
  if (!site.runUntil(() => sessions.every((session) => session.openWrites === 0) && isWhole(site), patienceMs)) {
    if (!site.failed) site.chronicle.fail("liveness", "the last writes do not arrive", describeSite(site));
    return;
  }
  sweep(parts);
  if (site.failed) return;
  verify(site);
  operator.judgeClaims();
  for (const array of site.arrays) if (array.isPair && !site.failed) compareCaches(site, array);
}

function becomesWhole({ site, operator, orders }: HealParts): boolean {
  let overflows = overflowCount(site);
  for (let round = 0; round < roundsMax; round++) {
    if (site.runUntil(() => isWhole(site), patienceMs)) {
      orders.writes = true;
      return true;
    }
    if (site.failed) return false;
    // Hosts that write faster than link and quota can carry make every resync the first of many, and those that never pause keep an
    // asynchronous copy a little behind: no array can mend that.
    if (orders.writes && (overflowCount(site) > overflows || isMerelyBehind(site))) {
      site.chronicle.note("world", "the hosts write on and on: they rest");
      orders.writes = false;
      continue;
    }
    overflows = overflowCount(site);
    if (nothingIsLeft(site)) {
      site.chronicle.note("world", "both caches were lost, and neither array has an image that is one: the end");
      return false;
    }
    const help = runbook(site);
    site.chronicle.note(
      "world",
      `not whole yet: ${help === null ? "nothing to do" : `${help.command} at ${help.array.name}`}`,
    );
    for (const line of describeSite(site)) site.chronicle.note("world", line);
    if (help !== null) void operator.issue(help.array, help.command);
  }
  const text = `the site is not whole ${(roundsMax * patienceMs) / 1000} s after the last fault`;
  site.chronicle.fail("liveness", text, describeSite(site));
  return false;
}

/** Everything is as it must be, except that the copy is never quite where its primary is. */
function isMerelyBehind(site: Site): boolean {
  const [first, second] = site.arrays.map(statusOf);
  if (first == null || second == null || first.writable === second.writable) return false;
  const [primary, golden] = first.writable ? [first, second] : [second, first];
  const follows = (state: string | undefined): boolean => state === "in-sync" || state === "catching-up";
  return golden.role === "golden" && follows(golden.state) && follows(primary.peers[0]?.state);
}

function overflowCount(site: Site): number {
  return site.arrays.reduce((sum, array) => sum + (array.eventCounts.get("peer-suspended") ?? 0), 0);
}

/** The caches of both arrays were lost before either had been mended from the other: only backups would help. */
function nothingIsLeft(site: Site): boolean {
  return site.arrays.every((array) => site.forgetLicences.has(array.name) && statusOf(array)?.state === "inconsistent");
}

/** What an operator who reads the status would do. */
function runbook(site: Site): { array: SimArray; command: "serve" | "resync" | "takeover" } | null {
  const [first, second] = site.arrays as [SimArray, SimArray];
  const one = statusOf(first);
  const two = statusOf(second);
  if (one === null || two === null) return null;
  if (one.writable && two.writable) return { array: olderBranch(site), command: "resync" };
  if (one.writable || two.writable) return { array: one.writable ? second : first, command: "resync" };
  if (one.role === "primary" && two.role === "primary") {
    // A mixture is nobody's first choice: the array with a whole image goes on, though it had been superseded.
    if (one.state === "inconsistent") return { array: second, command: "serve" };
    if (two.state === "inconsistent") return { array: first, command: "serve" };
    return { array: site.other(olderBranch(site)), command: "serve" };
  }
  if (one.role === "primary" || two.role === "primary") {
    const [primary, theirs, golden] = one.role === "primary" ? [first, one, second] : [second, two, first];
    // A primary whose cache was lost has a mixture: its copy goes on.
    if (theirs.state === "inconsistent") return { array: golden, command: "takeover" };
    return { array: primary, command: "serve" };
  }
  return { array: one.state === "inconsistent" || one.state === "resyncing" ? second : first, command: "takeover" };
}

function olderBranch(site: Site): SimArray {
  const [first, second] = site.arrays as [SimArray, SimArray];
  const openedMs = (array: SimArray): number => site.oracle.opened.get(array.name)?.openedMs ?? -1;
  return openedMs(first) < openedMs(second) ? first : second;
}

/** O1, D1: every host reads everything, and so does one for every salvage set. */
function sweep({ site, sessions, orders }: HealParts): void {
  const all = [...sessions, ...pathSessions(site, orders), ...salvageSessions(site, orders)];
  for (const session of all) session.sweepsDone = 0;
  orders.sweeps = true;
  const done = (): boolean => all.every((session) => session.sweepsDone >= sweepsWanted);
  if (site.runUntil(done, sweepLimitMs) || site.failed) return;
  const facts = all.map((one) => `${one.array.name} ${one.exportName}: ${one.sweepsDone} sweeps, ready ${one.isReady}`);
  site.chronicle.fail("liveness", "hosts could not read whole images", [...facts, ...describeSite(site)]);
}

/** One over every appliance of a pair, and over no other. */
function pathSessions(site: Site, orders: HostOrders): HostSession[] {
  const sessions: HostSession[] = [];
  for (const array of site.arrays.filter(({ isPair }) => isPair)) {
    for (const machine of array.machines) {
      for (const volume of site.oracle.history.volumes) {
        const session = new HostSession(site, array, volume, 100 + 2 * sessions.length, orders, volume.name, [machine]);
        session.start();
        sessions.push(session);
      }
    }
  }
  return sessions;
}

/** D1: nothing is asked of an array any more; then the partner's cache holds the owner's bytes, in both halves. */
function compareCaches(site: Site, array: SimArray): void {
  let persists = 0;
  const differing = (): number[] =>
    array.ownedHalves.flatMap(({ mirror: { memory } }) => {
      const [one, other] = array.machines.map(({ appliance: { nvram } }) =>
        nvram.image().bytes.subarray(memory.byteOffset, memory.byteOffset + memory.byteLength),
      );
      if (Buffer.compare(one!, other!) === 0) return [];
      return [memory.byteOffset + one!.findIndex((byte, at) => byte !== other![at])];
    });
  const areAlike = (): boolean => {
    if (persists > 0) return false;
    if (differing().length === 0) return true;
    // What needed no persist of its own goes along with these.
    for (const half of array.ownedHalves) {
      persists++;
      half.mirror.persist(() => {
        persists--;
      });
    }
    return false;
  };
  const steps = Math.ceil(patienceMs / cacheLookMs);
  for (let step = 0; step < steps; step++) {
    if (areAlike() || site.failed) return;
    site.world.runFor(cacheLookMs);
  }
  site.chronicle.fail("D1", `the caches of ${array.name} do not become equal`, [
    `the first bytes of the halves that differ are ${differing().join(" and ")}`,
    ...describeSite(site),
  ]);
}

function salvageSessions(site: Site, orders: HostOrders): HostSession[] {
  const found: HostSession[] = [];
  for (const array of site.arrays) {
    for (const { id } of array.live?.entry()?.replication.status().salvage ?? []) {
      for (const volume of site.oracle.history.volumes) {
        const session = new HostSession(site, array, volume, 0, orders, `${volume.name}@${id}`);
        session.start();
        found.push(session);
      }
    }
  }
  return found;
}

/** D5: where media have rotted nothing need mend, but every read that is answered is judged. */
export function sweepWhatAnswers(site: Site, orders: HostOrders): void {
  orders.writes = false;
  orders.sweeps = true;
  site.runUntil(() => false, rottenSweepMs);
}

/** R4: what is shown as in sync is equal, by the firmware's own comparison. */
function verify(site: Site): void {
  const body = { peer: null, timeoutMs: 60_000 };
  for (;;) {
    const primary = site.arrays.find((array) => statusOf(array)?.writable === true);
    const control = primary?.live?.running?.control;
    if (control === undefined) return;
    const { pairApi } = primary!.live!.machine;
    const asked = pairApi?.("POST", `/v1/groups/${groupName}/verify`, JSON.stringify(body)).then(resultOf<VerifyJson>);
    const result = site.answer(asked ?? control.groups.verify(groupName, body));
    if (site.failed) return;
    // What was asked of a pair under the faults may hand its half over, or move its group, only now; then it is not shown as whole either.
    const isMoving = !result.ok && movingCodes.includes(result.error.code) && !isWhole(site);
    if (isMoving && site.runUntil(() => isWhole(site), patienceMs)) continue;
    if (!result.ok) site.chronicle.fail("R4", `verify failed: ${result.error.code}: ${result.error.text}`);
    else if (!result.value.equal)
      site.chronicle.fail("R4", "verify found a difference", [JSON.stringify(result.value)]);
    return;
  }
}

function resultOf<T>({ status, body }: ApiAnswer): Result<T> {
  return status === 200
    ? { ok: true, value: body as T }
    : { ok: false, error: (body as { error: ControlError }).error };
}

export function statusOf(array: SimArray): GroupJson | null {
  const live = array.live;
  if (live === null || live.group() === null) return null;
  return live.running!.control.status().groups.find((group) => group.name === groupName) ?? null;
}

export function isWhole(site: Site): boolean {
  const [first, second] = site.arrays.map(statusOf);
  if (first == null || second == null || site.arrays.some((array) => !array.isMirrored)) return false;
  if (site.arrays.some((array) => array.live?.group()?.shelfTrouble != null)) return false;
  // The operator restarts it, as its warning says.
  if (site.arrays.some((array) => failedCaches(array).length > 0)) return false;
  const primary = first.writable ? first : second;
  const golden = first.writable ? second : first;
  if (!primary.writable || golden.writable || golden.role !== "golden") return false;
  return primary.peers[0]?.state === "in-sync" && golden.state === "in-sync" && golden.commitSeq === primary.commitSeq;
}

export function describeSite(site: Site): string[] {
  return site.arrays.flatMap((array) => [describeArray(array), ...array.machines.flatMap(describePartner)]);
}

function describePartner({ name, appliance, pairAppliance }: SimMachine): string[] {
  if (pairAppliance === null) return [];
  if (!appliance.isUp) return [`  ${name}: down`];
  return pairAppliance.halves.map((partnership) => {
    const { state, role, nics } = partnership.status();
    const wires = nics.map((nic) => `${nic.name} ${nic.up ? "up" : "down"}`).join(", ");
    return `  ${name}, half ${partnership.half}: ${role}, ${state}, copy ${partnership.mirror.state}, ${wires}`;
  });
}

function describeArray(array: SimArray): string {
  const status = statusOf(array);
  if (status === null) return `${array.name}: ${array.refusal ?? "down or starting"}`;
  const { role, writable, state, why, headSeq, commitSeq, appliedSeq, timeline, primary } = status;
  const peers = status.peers.map((peer) => `${peer.array} ${peer.mode} ${peer.state} received ${peer.receivedSeq}`);
  return (
    `${array.name}: ${role}, writable ${writable}, ${state}, primary ${primary}, timeline ${timeline.slice(0, 8)}, ` +
    `head ${headSeq}, commit ${commitSeq}, applied ${appliedSeq}, peers [${peers.join("; ")}], ${why ?? ""}`
  );
}
