/**
 * What a host with two paths waits, and whether it finds what it was promised, when the owner of a pair is killed, stopped, or hands over, and
 * when a group moves; and what it gets through the appliance that only forwards.
 *
 * A gap is the time from the last answer before to the first answer after: the death noticed, the log in the cache read again, the
 * host's way to the other path, and everything else that a host waits for.
 */

import type { Heartbeat } from "../lab_site/heartbeat.ts";
import type { Finding, Probe, ProbeOptions } from "./findings.ts";
import { generate } from "./generators.ts";
import { otherOf, type PairSite, type PathProtocol, pairAlone } from "./pair_site.ts";
import { type LoadReport, mixedLoad, VerifiedLoad } from "./paths/verified_load.ts";
import { steadyLoad } from "./steady.ts";
import { median, percentile } from "./summary.ts";

const killedP50Ms = 1300;
const killedP99Ms = 2000;
/** Where a partner is lost after no more than `fastLimitMs`. */
const fastP99Ms = 800;
const fastLimitMs = 250;
/** The firmware's own. */
const usualHeartbeat: Heartbeat = { everyMs: 100, missedMax: 10 };
const plannedMs = 100;
const forwardedShare = 0.5;

const volumeBytes = 1024 ** 3;
/** Before each blow the load has run for so long, and after it the host is served again for so long. */
const answersBefore = 4000;
const answersAfter = 2000;
const plannedMax = 10;
const movedMax = 10;
const stoppedMax = 10;
const forwardRounds = 3;
const forwardSeconds = 2;

const protocols = ["nbd", "iscsi"] as const;

export const failover: Probe = {
  name: "failover",
  question:
    "a pair under a mixed load of 4 KiB at depth 16: SIGKILL and SIGSTOP of the owner, planned failover, a group moved, forwarding",
  async run(folder, say, options) {
    const { heartbeat, steadyMs } = options;
    const findings: Finding[] = [];
    for (const protocol of protocols) {
      const site = await pairAlone(folder, volumeBytes, heartbeat);
      try {
        if (steadyMs !== null) {
          findings.push(...(await steadyLoad(site, protocol, steadyMs / protocols.length, say)));
          continue;
        }
        findings.push(...(await broken(site, protocol, options, say)));
        findings.push(await forwarded(site, protocol, say));
      } finally {
        await site.down();
      }
    }
    return findings;
  },
};

async function broken(
  site: PairSite,
  protocol: PathProtocol,
  { runs, heartbeat }: ProbeOptions,
  say: (text: string) => void,
): Promise<Finding[]> {
  let owner = await site.mirrored();
  const load = new VerifiedLoad({ ...mixedLoad, urls: await site.paths(protocol) });
  try {
    await load.start();
    const kills: number[] = [];
    for (let run = 1; run <= runs; run++) {
      await load.more(answersBefore);
      const left = await site.notDestaged(owner);
      load.mark();
      await site.kill(owner);
      await load.more(answersAfter);
      kills.push(load.gap.ms);
      say(`  ${protocol}, kill ${run} of ${runs}: ${owner}, ${left} records not at home: ${load.gap.ms.toFixed(0)} ms`);
      owner = await site.repair();
    }
    // Its death is not proven by the end of its process: its partner has to miss it.
    const stops: number[] = [];
    for (let run = 1; run <= Math.min(runs, stoppedMax); run++) {
      await load.more(answersBefore);
      load.mark();
      site.pause(owner);
      await load.more(answersAfter);
      stops.push(load.gap.ms);
      say(`  ${protocol}, stop ${run}: ${owner}: ${load.gap.ms.toFixed(0)} ms`);
      owner = await site.repair();
    }
    const plans: number[] = [];
    for (let run = 1; run <= Math.min(runs, plannedMax); run++) {
      await load.more(answersBefore);
      const left = await site.notDestaged(owner);
      load.mark();
      await site.handOver();
      await load.more(answersAfter);
      plans.push(load.gap.ms);
      say(`  ${protocol}, planned ${run}: from ${owner}, ${left} records not at home: ${load.gap.ms.toFixed(0)} ms`);
      owner = await site.mirrored();
    }
    await site.goHome();
    const moves: number[] = [];
    for (let run = 1; run <= Math.min(runs, movedMax); run++) {
      await load.more(answersBefore);
      owner = await site.groupOwner();
      load.mark();
      await site.moveGroup();
      await load.more(answersAfter);
      moves.push(load.gap.ms);
      say(`  ${protocol}, move ${run}: from ${owner}: ${load.gap.ms.toFixed(0)} ms`);
      await site.mirrored();
    }
    const report = await load.finish();
    for (const text of report.told) say(`  ${protocol}: ${text}`);
    return judged(protocol, { kills, stops, plans, moves }, heartbeat ?? usualHeartbeat, report);
  } finally {
    load.stop();
  }
}

interface Gaps {
  readonly kills: readonly number[];
  readonly stops: readonly number[];
  readonly plans: readonly number[];
  readonly moves: readonly number[];
}

function judged(
  protocol: string,
  { kills, stops, plans, moves }: Gaps,
  { everyMs, missedMax }: Heartbeat,
  report: LoadReport,
): Finding[] {
  const limitMs = everyMs * missedMax;
  const p99Ms = limitMs <= fastLimitMs ? fastP99Ms : killedP99Ms;
  const { lostWrites, staleReads, wrongBytes } = report.violations;
  const ofKills = `${kills.length} kills, at most ${Math.max(...kills).toFixed(0)} ms`;
  const served = `${report.acknowledgedWrites} writes acknowledged, ${report.reads} reads judged`;
  const about = `${served}, ${report.errors} errors, ${report.repeats} repeats, ${report.breaks} breaks of a path`;
  return [
    {
      work: `${protocol}-killed-p50`,
      measured: percentile(kills, 0.5),
      unit: "ms",
      atMost: killedP50Ms,
      note: ofKills,
    },
    {
      work: `${protocol}-killed-p99`,
      measured: percentile(kills, 0.99),
      unit: "ms",
      atMost: p99Ms,
      note: ofKills,
    },
    {
      work: `${protocol}-stopped`,
      measured: Math.max(...stops),
      unit: "ms",
      // It is missed first; the rest is as after a kill.
      atMost: limitMs + p99Ms,
      note: `SIGSTOP, the longest of ${stops.length}, p50 ${percentile(stops, 0.5).toFixed(0)} ms`,
    },
    {
      work: `${protocol}-planned`,
      measured: Math.max(...plans),
      unit: "ms",
      atMost: plannedMs,
      note: `the longest of ${plans.length}, p50 ${percentile(plans, 0.5).toFixed(0)} ms`,
    },
    {
      work: `${protocol}-moved`,
      measured: Math.max(...moves),
      unit: "ms",
      atMost: plannedMs,
      note: `one group, the longest of ${moves.length}, p50 ${percentile(moves, 0.5).toFixed(0)} ms`,
    },
    {
      work: `${protocol}-violations`,
      measured: lostWrites + staleReads + wrongBytes,
      unit: "",
      atMost: 0,
      note: `${lostWrites} lost writes, ${staleReads} stale reads, ${wrongBytes} wrong bytes; ${about}`,
    },
  ];
}

/** Random reads through the appliance that owns, and through the one that forwards, in alternation. */
async function forwarded(site: PairSite, protocol: PathProtocol, say: (text: string) => void): Promise<Finding> {
  await site.mirrored();
  await site.settled();
  const owner = await site.groupOwner();
  const iops = async (url: string) => {
    const plan = { url, kind: "randread", blockBytes: 4096, depth: 32, connections: 1, sizeBytes: mixedLoad.sizeBytes };
    return (await generate("lean", { ...plan, kind: "randread", seconds: forwardSeconds, until: "timed" })).iops;
  };
  const direct: number[] = [];
  const through: number[] = [];
  for (let round = 0; round < forwardRounds; round++) {
    direct.push(await iops(site.url(owner, protocol)));
    through.push(await iops(site.url(otherOf(owner), protocol)));
  }
  const ratio = median(through.map((value, round) => value / direct[round]!));
  const note = `${Math.round(median(through))} IOPS through the standby, ${Math.round(median(direct))} at the owner`;
  say(`  ${protocol}, forwarded: ${ratio.toFixed(2)} x, ${note}`);
  return { work: `${protocol}-forwarded`, measured: ratio, unit: "x", atLeast: forwardedShare, note };
}
