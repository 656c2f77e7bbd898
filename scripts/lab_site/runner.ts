/** How a lab's appliances run: as processes of this machine, or as virtual machines on it. The commands know only this. */
import { processes } from "./process.ts";
import { type Lab, LabError } from "./site.ts";
import { machines } from "./vm.ts";

/** An appliance that has power. */
export interface Running {
  /** Of its process, or of its machine's. */
  readonly pid: number;
  readonly paused: boolean;
}

/** `fenced`: it was killed while it was paused. */
export type ResumeOutcome = "resumed" | "fenced" | "down";

export interface Runner {
  /** null: it does not run. */
  running(lab: Lab, name: string): Promise<Running | null>;
  /** If it does not run. Not waiting for the appliance. */
  start(lab: Lab, name: string): Promise<void>;
  /** As a loss of power; done when it has none. */
  kill(lab: Lab, name: string): Promise<void>;
  /** In order; done when it has ended. */
  stop(lab: Lab, name: string): Promise<void>;
  /** False: it does not run. */
  pause(lab: Lab, name: string): Promise<boolean>;
  resume(lab: Lab, name: string): Promise<ResumeOutcome>;
  /** Nothing of it is left but its files. */
  end(lab: Lab, name: string, orderly: boolean): Promise<void>;
  /** For messages: the last of what it said. */
  lastOutput(lab: Lab, name: string): string;
  /** Files that hold what it said. */
  readonly logs: readonly ((lab: Lab, name: string) => string)[];
}

export function runnerOf({ site }: Lab): Runner {
  return site.machines === "vm" ? machines : processes;
}

export function running(lab: Lab, name: string): Promise<Running | null> {
  return runnerOf(lab).running(lab, name);
}

/** For whoever waits for something that the appliance does not live to do. */
export function endedError(lab: Lab, name: string): LabError {
  return new LabError(`${name} has ended: ${runnerOf(lab).lastOutput(lab, name)}`, "ended");
}
