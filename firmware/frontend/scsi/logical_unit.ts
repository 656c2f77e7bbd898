/**
 * A logical unit: what all nexuses see of one volume (SAM-5 4.6.20). It lives as long as a nexus has it mapped; reservations that
 * must outlive that are kept on the shelf.
 *
 * The task set (SAM-5 8): SIMPLE tasks run at once and in any order, but never before an older ORDERED one has ended; an ORDERED one
 * waits for everything older; HEAD OF QUEUE never waits.
 *
 * Invariants:
 * - A task leaves the set exactly once, when it has ended.
 * - While no ORDERED task is there, nothing waits, and nothing is looked for.
 */
import { scsiLimits } from "./limits.ts";
import { ModeParameters } from "./mode_parameters.ts";
import type { ScsiNexus } from "./nexus.ts";
import type { UnitReservations } from "./reservations.ts";
import type { Standing } from "./standing.ts";
import { TaskAttribute } from "./task.ts";
import type { UnitAccess } from "./unit_access.ts";

/** A SANITIZE that runs, or failed and was not acknowledged (SBC-4 5.30). */
export interface SanitizeState {
  readonly failed: boolean;
  /** 0 to 65535 of 65536. */
  readonly progress: number;
  /** AUSE: EXIT FAILURE MODE may end a failed one. */
  readonly mayExit: boolean;
}

export class LogicalUnit {
  /** 32 hex digits. */
  readonly uuid: string;
  readonly parameters = new ModeParameters();
  readonly reservations: UnitReservations;
  /** Who has this unit mapped; a nexus with two LUNs for it has two. */
  readonly accesses = new Set<UnitAccess>();
  sanitize: SanitizeState | null = null;
  readonly #tasks = new Set<Standing>();
  #orderedTasks = 0;
  #waiting = 0;
  #starting = false;

  constructor(uuid: string, reservations: UnitReservations) {
    this.uuid = uuid;
    this.reservations = reservations;
    const { sanitizing } = reservations;
    if (sanitizing !== null) this.sanitize = { failed: true, progress: 0, mayExit: sanitizing.mayExit };
  }

  get tasks(): Iterable<Standing> {
    return this.#tasks;
  }

  get isIdle(): boolean {
    return this.#tasks.size === 0;
  }

  get isFull(): boolean {
    return this.#tasks.size >= scsiLimits.taskSetMax;
  }

  enter(standing: Standing): void {
    this.#tasks.add(standing);
    if (standing.task.attribute === TaskAttribute.ordered) this.#orderedTasks++;
  }

  /** Whether the task must wait for older ones; `startWaiting` then starts it. */
  mustWait(standing: Standing): boolean {
    if (this.#orderedTasks === 0 || this.#mayStart(standing)) return false;
    this.#waiting++;
    return true;
  }

  leave(standing: Standing): void {
    if (!this.#tasks.delete(standing)) return;
    if (standing.task.attribute === TaskAttribute.ordered) this.#orderedTasks--;
    if (standing.phase === "waiting") this.#waiting--;
  }

  /** Starts the tasks that need not wait any more, oldest first. One that ends at once lets the next start from here, not from within. */
  startWaiting(): void {
    if (this.#starting) return;
    this.#starting = true;
    for (let next = this.#firstStartable(); next !== null; next = this.#firstStartable()) {
      this.#waiting--;
      next.phase = "running";
      next.nexus.start(next);
    }
    this.#starting = false;
  }

  #firstStartable(): Standing | null {
    if (this.#waiting === 0) return null;
    let isFirst = true;
    for (const standing of this.#tasks) {
      const isOrdered = standing.task.attribute === TaskAttribute.ordered;
      if (standing.phase === "waiting" && (isFirst || !isOrdered)) return standing;
      // What is younger waits for it.
      if (isOrdered) return null;
      isFirst = false;
    }
    return null;
  }

  #mayStart(standing: Standing): boolean {
    const { attribute } = standing.task;
    if (attribute === TaskAttribute.headOfQueue) return true;
    for (const older of this.#tasks) {
      if (older === standing) return true;
      if (attribute === TaskAttribute.ordered || older.task.attribute === TaskAttribute.ordered) return false;
    }
    return true;
  }

  /** Establishes a unit attention for every nexus but `except`. */
  establish(asc: number, except: ScsiNexus | null = null): void {
    for (const access of this.accesses) if (access.nexus !== except) access.establish(asc);
  }
}
