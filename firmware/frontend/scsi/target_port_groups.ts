/**
 * The target port groups of an array (SPC-4 5.16.2): through which ports its logical units are reached best, and through which ones hardly.
 * The array alone changes their states, no host's order does (implicit management, 5.16.2.7).
 *
 * Invariants:
 * - What hosts are told and how their commands are judged changes in one moment, with `refresh`; in between the groups are as they were.
 * - A group without ports is none: every one that is reported has a port (6.37).
 */

/** Primary target port asymmetric access states (SPC-4 5.16.2.4). The array is in one or in another: it reports no transition. */
export type AccessState = "active-optimized" | "active-non-optimized" | "standby" | "unavailable";

/** ASYMMETRIC ACCESS STATE (SPC-4 table 307). */
export const accessStateCode = {
  "active-optimized": 0x0,
  "active-non-optimized": 0x1,
  standby: 0x2,
  unavailable: 0x3,
} as const satisfies Record<AccessState, number>;

export interface TargetPortGroup {
  /** TARGET PORT GROUP, 1 to 65535, the same as long as the array lives. */
  readonly id: number;
  readonly state: AccessState;
  /** PREF: where hosts should go when they may choose, whatever the states (5.16.2.6). */
  readonly preferred: boolean;
  /** Relative target port identifiers (SPC-5 4.3.4), 1 to 65535, at most 255; each stands in one group. */
  readonly ports: readonly number[];
}

export class TargetPortGroups {
  readonly #source: () => readonly TargetPortGroup[];
  /** null: nobody has asked yet. */
  #present: readonly TargetPortGroup[] | null = null;
  readonly #byPort = new Map<number, TargetPortGroup>();
  readonly #altered = new Set<number>();

  /** `source` is called at the first question, and then with each `refresh`. */
  constructor(source: () => readonly TargetPortGroup[]) {
    this.#source = source;
  }

  get present(): readonly TargetPortGroup[] {
    return this.#present ?? this.#take();
  }

  /** Whether the way matters: there is more than one group. */
  get isAsymmetric(): boolean {
    return this.present.length > 1;
  }

  /** The group of a port, by its relative target port identifier; null: it stands in none. Asked for each command. */
  of(relativePort: number): TargetPortGroup | null {
    if (this.#present === null) this.#take();
    return this.#byPort.get(relativePort) ?? null;
  }

  /** Whether a port's group is unavailable (5.16.2.4.5). */
  isUnavailable(relativePort: number): boolean {
    return this.of(relativePort)?.state === "unavailable";
  }

  /** Whether a group's state has changed since the start: STATUS CODE 02h (SPC-4 table 308). */
  isAltered(id: number): boolean {
    return this.#altered.has(id);
  }

  /** Looks at the source again. True: a group has another state, has come or has gone, and hosts must hear of it. */
  refresh(): boolean {
    const before = new Map(this.present.map(({ id, state }) => [id, state]));
    const after = this.#take();
    let isChanged = after.length !== before.size;
    for (const { id, state } of after) {
      const former = before.get(id);
      if (former === state) continue;
      isChanged = true;
      if (former !== undefined) this.#altered.add(id);
    }
    return isChanged;
  }

  /** A copy: the source's own groups may change at any time. */
  #take(): readonly TargetPortGroup[] {
    const taken = this.#source()
      .filter(({ ports }) => ports.length > 0)
      .map((group) => ({ ...group, ports: [...group.ports] }));
    this.#present = taken;
    this.#byPort.clear();
    for (const group of taken) for (const port of group.ports) this.#byPort.set(port, group);
    return taken;
  }
}
