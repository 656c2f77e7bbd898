/** The last table: each work with a bar, what ours reached beside whom, and whether that is enough. */
import { type Finding, figureOf, reached } from "./findings.ts";
import { aligned, type Summary } from "./summary.ts";
import type { Bar, Work } from "./works.ts";

export interface Verdict {
  readonly bench: string;
  readonly work: string;
  readonly ours: string;
  readonly peer: string;
  /** null: measured against a fixed bar. */
  readonly ratio: number | null;
  readonly bar: string;
  readonly reached: boolean;
  /** Whether everything was at home and replicated when the runs ended, and what else counts. */
  readonly note: string;
}

/** `summaries` of one bench, ours first. A bar whose peers were not measured has no verdict. */
export function judgeWorks(bench: string, works: readonly Work[], summaries: readonly Summary[]): Verdict[] {
  const ours = summaries[0]?.contender;
  return works.flatMap((work) => {
    const here = summaries.filter((each) => each.work === work.name);
    return here
      .filter(({ contender }) => contender === ours)
      .flatMap((own) => (work.bars ?? []).map((bar) => judge(bench, bar, own, here)).filter((each) => each !== null));
  });
}

function judge(bench: string, bar: Bar, own: Summary, summaries: readonly Summary[]): Verdict | null {
  const { measure, ratioAtLeast } = bar;
  const peers = summaries
    .filter(
      ({ client, contender }) => client === own.client && contender !== own.contender && bar.peers.includes(contender),
    )
    .map((peer) => ({ peer, ratio: ratioTo(peer, own, measure) }))
    .sort((a, b) => a.ratio - b.ratio);
  const best = peers[0];
  if (best === undefined) return null;
  return {
    bench,
    work: own.client === "lean" ? own.work : `${own.work}, ${own.client}`,
    ours: figure(own, measure),
    peer: `${figure(best.peer, measure)} ${best.peer.contender}`,
    ratio: best.ratio,
    bar: `>= ${ratioAtLeast.toFixed(1)} x`,
    reached: best.ratio >= ratioAtLeast,
    note: noteOf(own, best.peer),
  };
}

/** How much better ours is. */
function ratioTo(peer: Summary, own: Summary, measure: Bar["measure"]): number {
  if (measure === "iops") return own.ratios[peer.contender] ?? Number.NaN;
  return measure === "p50" ? peer.latencyUsP50 / own.latencyUsP50 : peer.latencyUsP99 / own.latencyUsP99;
}

function figure(summary: Summary, measure: Bar["measure"]): string {
  if (measure === "p50") return `p50 ${summary.latencyUsP50} us`;
  if (measure === "p99") return `p99 ${summary.latencyUsP99} us`;
  if (summary.work.startsWith("1m")) return `${(summary.bytesPerSecond / 1e6).toFixed(0)} MB/s`;
  return `${Math.round(summary.iops)} IOPS`;
}

function noteOf(own: Summary, peer: Summary): string {
  const cost = `CPU s/GiB ${own.serverCpuSecondsPerGib.toFixed(2)} : ${peer.serverCpuSecondsPerGib.toFixed(2)}`;
  const others = `others ${own.othersCores.toFixed(2)} : ${peer.othersCores.toFixed(2)} cores`;
  const leftOver = Object.entries(own.leftOver).filter(([, value]) => value > 0);
  const left = leftOver.map(([name, value]) => `${name} ${value}`).join(", ");
  return `${cost}; ${others}; ${left === "" ? "nothing left over" : `left over: ${left}`}`;
}

export function judgeFinding(bench: string, finding: Finding): Verdict {
  return {
    bench,
    work: finding.work,
    ours: figureOf(finding.measured, finding.unit),
    peer: "",
    ratio: null,
    bar:
      "atMost" in finding
        ? `<= ${figureOf(finding.atMost, finding.unit)}`
        : `>= ${figureOf(finding.atLeast, finding.unit)}`,
    reached: reached(finding),
    note: finding.note,
  };
}

export function verdictTable(verdicts: readonly Verdict[]): string {
  const rows = [["bench", "work", "ours", "peer", "ratio", "bar", "reached", "note"]];
  for (const each of verdicts) {
    const ratio = each.ratio === null ? "" : each.ratio.toFixed(2);
    rows.push([each.bench, each.work, each.ours, each.peer, ratio, each.bar, each.reached ? "yes" : "NO", each.note]);
  }
  return aligned(rows);
}
