/**
 * Many runs to few figures. Each figure is the median over rounds; a ratio is the median of the rounds' own ratios, so that a
 * machine that changes its speed between rounds does not count for either side.
 */
import type { GeneratorName } from "./generators.ts";
import type { Run } from "./rounds.ts";

export interface Summary {
  readonly work: string;
  readonly client: GeneratorName;
  readonly contender: string;
  readonly iops: number;
  readonly iopsMin: number;
  readonly iopsMax: number;
  readonly bytesPerSecond: number;
  readonly latencyUsP50: number;
  readonly latencyUsP99: number;
  readonly serverCpuSecondsPerGib: number;
  /** Cores that the client kept busy; near 1 the client is the limit. */
  readonly clientCores: number;
  /** Cores that processes outside this measurement kept busy. */
  readonly othersCores: number;
  /** The largest over the rounds, by name. */
  readonly leftOver: Readonly<Record<string, number>>;
  /** This contender ÷ each other one, by name. */
  readonly ratios: Readonly<Record<string, number>>;
}

export function summarize(runs: readonly Run[]): Summary[] {
  const summaries: Summary[] = [];
  const seen = new Set<string>();
  for (const { work, client, contender } of runs) {
    const key = `${work} ${client} ${contender}`;
    if (seen.has(key)) continue;
    seen.add(key);
    const here = runs.filter((run) => run.work === work && run.client === client);
    const own = here.filter((run) => run.contender === contender);
    const ratios: Record<string, number> = {};
    for (const other of new Set(here.map((run) => run.contender))) {
      if (other === contender) continue;
      const paired = own.map((run) => {
        const peer = here.find((each) => each.contender === other && each.round === run.round);
        return peer === undefined ? Number.NaN : run.iops / peer.iops;
      });
      ratios[other] = median(paired);
    }
    summaries.push({
      work,
      client,
      contender,
      iops: median(own.map((run) => run.iops)),
      iopsMin: Math.min(...own.map((run) => run.iops)),
      iopsMax: Math.max(...own.map((run) => run.iops)),
      bytesPerSecond: median(own.map((run) => run.bytesPerSecond)),
      latencyUsP50: median(own.map((run) => run.latencyUsP50)),
      latencyUsP99: median(own.map((run) => run.latencyUsP99)),
      serverCpuSecondsPerGib: median(own.map((run) => run.serverCpuSecondsPerGib)),
      clientCores: median(own.map((run) => run.clientCpuSeconds / run.seconds)),
      othersCores: median(own.map((run) => run.othersCores)),
      leftOver: largest(own.map((run) => run.leftOver)),
      ratios,
    });
  }
  return summaries;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].filter((value) => !Number.isNaN(value)).sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** By nearest rank: of few values the 99th percentile is the largest. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}

function largest(records: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const result: Record<string, number> = {};
  for (const record of records) {
    for (const [name, value] of Object.entries(record)) result[name] = Math.max(result[name] ?? 0, value);
  }
  return result;
}

/** For people. The ratio stands with the first contender only: ours. */
export function table(summaries: readonly Summary[]): string {
  const rows = [
    [
      "work",
      "client",
      "server",
      "IOPS",
      "min..max",
      "MB/s",
      "p50 us",
      "p99 us",
      "CPU s/GiB",
      "client cores",
      "other cores",
      "ratio",
      "left over",
    ],
  ];
  const ours = summaries[0]?.contender;
  for (const each of summaries) {
    const ratios = Object.entries(each.ratios).map(([name, ratio]) => `${ratio.toFixed(2)} x ${name}`);
    const leftOver = Object.entries(each.leftOver).filter(([, value]) => value > 0);
    rows.push([
      each.work,
      each.client,
      each.contender,
      String(Math.round(each.iops)),
      `${Math.round(each.iopsMin)}..${Math.round(each.iopsMax)}`,
      (each.bytesPerSecond / 1e6).toFixed(0),
      String(each.latencyUsP50),
      String(each.latencyUsP99),
      each.serverCpuSecondsPerGib.toFixed(2),
      each.clientCores.toFixed(2),
      each.othersCores.toFixed(2),
      each.contender === ours ? ratios.join(", ") : "",
      leftOver.map(([name, value]) => `${name} ${value}`).join(", "),
    ]);
  }
  return aligned(rows);
}

/** Columns of equal width. */
export function aligned(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) => {
      const cells = row.map((cell, column) => cell.padEnd(widths[column] ?? 0));
      return cells.join("  ").trimEnd();
    })
    .join("\n");
}
