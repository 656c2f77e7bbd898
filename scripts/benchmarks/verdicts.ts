/** The last table: each work with a bar, what ours reached beside whom, and whether that is enough. */
import { type Finding, reached } from "./findings.ts";
import { aligned, type Summary } from "./summary.ts";
import type { Work } from "./works.ts";

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

/** `summaries` of one bench, ours first. A work whose peer was not measured has no verdict. */
export function judgeWorks(bench: string, works: readonly Work[], summaries: readonly Summary[]): Verdict[] {
  const verdicts: Verdict[] = [];
  for (const work of works) {
    const { bar } = work;
    if (bar === undefined) continue;
    for (const own of summaries.filter((each) => each.work === work.name)) {
      const peer = summaries.find(
        (each) => each.work === work.name && each.client === own.client && each.contender === bar.peer,
      );
      if (own.contender !== summaries[0]?.contender || peer === undefined) continue;
      const ratio =
        bar.measure === "iops" ? (own.ratios[bar.peer] ?? Number.NaN) : peer.latencyUsP50 / own.latencyUsP50;
      verdicts.push({
        bench,
        work: own.client === "lean" ? own.work : `${own.work}, ${own.client}`,
        ours: figure(own, bar.measure),
        peer: `${figure(peer, bar.measure)} ${bar.peer}`,
        ratio,
        bar: `>= ${bar.ratioAtLeast.toFixed(1)} x`,
        reached: ratio >= bar.ratioAtLeast,
        note: noteOf(own, peer),
      });
    }
  }
  return verdicts;
}

function figure(summary: Summary, measure: "iops" | "p50"): string {
  if (measure === "p50") return `p50 ${summary.latencyUsP50} us`;
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
    ours: `${finding.measured.toFixed(0)} ${finding.unit}`,
    peer: "",
    ratio: null,
    bar: `< ${finding.atMost} ${finding.unit}`,
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
