/** The firmware broke the HAL's contract: a finding. It stops the run even when the firmware catches it. */
export class BrokenContract extends Error {}

/** Where violations are kept until the present event has ended. */
export interface ContractLog {
  violation(error: BrokenContract): void;
}

export function demand(log: ContractLog, condition: boolean, what: string): asserts condition {
  if (condition) return;
  const error = new BrokenContract(what);
  log.violation(error);
  throw error;
}
