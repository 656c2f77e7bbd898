/** What is measured against a fixed bar and not beside a peer: a time or an amount of memory. */

export interface Finding {
  readonly work: string;
  readonly measured: number;
  readonly unit: "ms" | "MiB";
  readonly atMost: number;
  /** Under which conditions: how full, how much was left to do. */
  readonly note: string;
}

export interface Probe {
  readonly name: string;
  readonly question: string;
  /** `folder` is the probe's own; it leaves no process behind. */
  run(folder: string, say: (text: string) => void): Promise<Finding[]>;
}

export function reached(finding: Finding): boolean {
  return finding.measured < finding.atMost;
}

export const mib = 1024 ** 2;
