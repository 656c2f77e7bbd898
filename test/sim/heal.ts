/**
 * The end of a run: no fault is in force any more, and within bounded time the site must be whole. Exactly one array is writable,
 * the other one is its golden copy and in sync, hosts get answers, and whole images read on both sides are what the history says.
 */
import type { GroupJson } from "../../firmware/manage/status_json.ts";
import { type HostOrders, type HostSession, sweepsWanted } from "./host_session.ts";
import { groupName, type SimArray, type Site } from "./site.ts";

const settleLimitMs = 60_000;

export function healAndJudge(site: Site, sessions: readonly HostSession[], orders: HostOrders): void {
  orders.writes = false;
  if (!site.runUntil(() => isWhole(site), settleLimitMs)) {
    if (!site.failed)
      site.chronicle.fail("liveness", `the site is not whole after ${settleLimitMs} ms`, describeSite(site));
    return;
  }
  orders.sweeps = true;
  for (const session of sessions) session.sweepsDone = 0;
  if (!site.runUntil(() => sessions.every((session) => session.sweepsDone >= sweepsWanted), settleLimitMs)) {
    if (!site.failed) {
      const facts = sessions.map(
        (one) => `${one.array.name} ${one.volume.name}: ${one.sweepsDone} sweeps, ready ${one.isReady}`,
      );
      site.chronicle.fail("liveness", "hosts could not read whole images", [...facts, ...describeSite(site)]);
    }
    return;
  }
  verify(site);
}

/** R4: what is shown as in sync is equal, by the firmware's own comparison. */
function verify(site: Site): void {
  const primary = site.arrays.find((array) => statusOf(array)?.writable === true);
  const result = site.answer(
    primary!.live!.running!.control.groups.verify(groupName, { peer: null, timeoutMs: 60_000 }),
  );
  if (site.failed) return;
  if (!result.ok) site.chronicle.fail("R4", `verify failed: ${result.error.code}: ${result.error.text}`);
  else if (!result.value.equal) site.chronicle.fail("R4", "verify found a difference", [JSON.stringify(result.value)]);
}

export function statusOf(array: SimArray): GroupJson | null {
  const live = array.live;
  if (live === null || live.group() === null) return null;
  return live.running!.control.status().groups.find((group) => group.name === groupName) ?? null;
}

export function isWhole(site: Site): boolean {
  const [first, second] = site.arrays.map(statusOf);
  if (first == null || second == null) return false;
  const primary = first.writable ? first : second;
  const golden = first.writable ? second : first;
  if (!primary.writable || golden.writable || golden.role !== "golden") return false;
  return primary.peers[0]?.state === "in-sync" && golden.state === "in-sync" && golden.commitSeq === primary.commitSeq;
}

export function describeSite(site: Site): string[] {
  return site.arrays.map((array) => {
    const status = statusOf(array);
    if (status === null) return `${array.name}: ${array.refusal ?? "down or starting"}`;
    const { role, writable, state, why, headSeq, commitSeq, appliedSeq, timeline, primary } = status;
    const peers = status.peers.map((peer) => `${peer.array} ${peer.mode} ${peer.state} received ${peer.receivedSeq}`);
    return `${array.name}: ${role}, writable ${writable}, ${state}, primary ${primary}, timeline ${timeline.slice(0, 8)}, head ${headSeq}, commit ${commitSeq}, applied ${appliedSeq}, peers [${peers.join("; ")}], ${why ?? ""}`;
  });
}
