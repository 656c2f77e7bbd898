/** What is measured against a fixed bar and not beside a peer: a time, an amount of memory, a count, a share. */

import type { Heartbeat } from "../lab_site/heartbeat.ts";

interface Measured {
  readonly work: string;
  readonly measured: number;
  /** `x`: how many times as much; empty: a count. */
  readonly unit: "ms" | "MiB" | "x" | "";
  /** Under which conditions: how full, how much was left to do. */
  readonly note: string;
}

export type Finding = Measured & ({ readonly atMost: number } | { readonly atLeast: number });

export interface ProbeOptions {
  /** How often a probe repeats what it judges by percentiles. */
  readonly runs: number;
  /** Of the pair; null: the firmware's own. */
  readonly heartbeat: Heartbeat | null;
  /** Instead of everything else, a pair runs for so long under full load, untouched; null: no. */
  readonly steadyMs: number | null;
}

export interface Probe {
  readonly name: string;
  readonly question: string;
  /** `folder` is the probe's own; it leaves no process behind. */
  run(folder: string, say: (text: string) => void, options: ProbeOptions): Promise<Finding[]>;
}

export function reached(finding: Finding): boolean {
  return "atMost" in finding ? finding.measured <= finding.atMost : finding.measured >= finding.atLeast;
}

/** The figure, or the bar, with its unit. */
export function figureOf(value: number, unit: Finding["unit"]): string {
  return unit === "x" ? `${value.toFixed(2)} x` : `${value.toFixed(0)} ${unit}`.trim();
}

export const mib = 1024 ** 2;
