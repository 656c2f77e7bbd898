/**
 * What the fuzzer needs to know of a protocol: recorded sessions to begin with, and how to play a mutated one. A protocol joins with
 * one file that implements `FuzzTarget`, and one line in `scripts/fuzz.ts`.
 */

/** What a host says in one session, message by message. How it is cut into deliveries is the scenario's matter. */
export type Script = readonly Uint8Array[];

export interface FuzzCase {
  readonly script: Script;
  /** Decides everything else: how the bytes are cut, how slowly the host reads, what the volume and the machine do meanwhile. */
  readonly scenarioSeed: number;
}

export interface CaseReport {
  /** What the case reached, as short words: states, replies, errors. A case that reaches a new word is kept and mutated further. */
  readonly reached: readonly string[];
  /** The invariant that did not hold; null: all held. */
  readonly finding: string | null;
}

export interface FuzzTarget {
  readonly name: string;
  corpus(): readonly Script[];
  /** Numbers that mean something in this protocol: magics, limits and what lies beside them. */
  readonly numbers: readonly bigint[];
  /** Against the firmware's own code in this process, on a clock that is turned by hand. The same case reports the same. */
  runCase(fuzzCase: FuzzCase): CaseReport;
  /** Against a running appliance at HOST:PORT; `volume` may be overwritten. */
  runAt(at: string, volume: string, fuzzCase: FuzzCase): Promise<CaseReport>;
}
